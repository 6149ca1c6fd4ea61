import { useState } from "preact/hooks";

import { html, useElement } from "casket/shell/html";

/** A button that copies text. */
export function Copied({ text, label }) {
  const [said, setSaid] = useState("");
  /** @type {{current: HTMLElement}} */
  const element = useElement();
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setSaid("copied");
    } catch {
      // Where the browser does not let the page copy, the reader still can.
      if (element.current) getSelection()?.selectAllChildren(element.current);
      setSaid("selected: press Ctrl+C");
    }
    setTimeout(() => setSaid(""), 2000);
  };
  return html`<span class="copied">
    <code ref=${element}>${text}</code>
    <button type="button" aria-label=${label} title=${label} onClick=${copy}>Copy</button>
    <span role="status" class="muted">${said}</span>
  </span>`;
}

/** Returns where a file is, as a command in a shell must have it. */
export function inShell(place) {
  // A password is shown as stars; without it, it is looked for where the store's driver does.
  const plain = place.replace(":***@", "@");
  return /^[\w@%+=:,./-]+$/.test(plain) ? plain : `'${plain.replaceAll("'", `'"'"'`)}'`;
}

