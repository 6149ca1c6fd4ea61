import { useEffect, useRef } from "preact/hooks";

import { html, useElement } from "casket/shell/html";

const PAUSE = 1200;

const HELP = [
  ["/", "go to the filter"],
  ["j k or arrows", "move in the table; with Shift, select on the way"],
  ["x or Space", "select; with Shift, from the last one to here"],
  ["Enter", "open the session, or the group"],
  ["p", "pin on top"],
  ["h", "hide from the charts, or draw"],
  ["c", "compare what is selected"],
  ["a", "select all that fit; again: none"],
  ["t", "go to the table"],
  ["m", "search metrics"],
  ["l", "log axis"],
  ["o", "ignore outliers, or show them"],
  ["b, e", "in Compare: choose the baseline, show equal rows"],
  ["+", "zoom in at the cursor of a chart"],
  ["0", "zoom out"],
  ["g s, g c, g w, g e", "go to Sessions, Compare, Sweep, Explore"],
  ["Arrows, in a chart", "move the cursor"],
  ["?", "these keys"],
  ["Escape", "close, or leave the filter"],
];

/** Calls the function of a key, unless text is typed; `keys` maps "c" or "g s" to functions. */
export function useKeys(keys) {
  const latest = useRef(keys);
  latest.current = keys;
  useEffect(() => {
    let before = "";
    let timer;
    const press = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
      if (isWriting(event.target)) return;
      const both = before ? `${before} ${event.key}` : event.key;
      const act = latest.current[both] ?? latest.current[event.key];
      clearTimeout(timer);
      before = "";
      if (act) {
        event.preventDefault();
        act();
      } else if (event.key === "g") {
        before = "g";
        timer = setTimeout(() => (before = ""), PAUSE);
      }
    };
    document.addEventListener("keydown", press);
    return () => document.removeEventListener("keydown", press);
  }, []);
}

/** The list of keys, over the page. */
export function KeyHelp({ onClose }) {
  /** @type {{current: HTMLDialogElement}} */
  const dialog = useElement();
  useEffect(() => dialog.current.showModal(), []);
  return html`<dialog ref=${dialog} class="keys" aria-labelledby="keys-title" onClose=${onClose}>
    <h2 id="keys-title">Keys</h2>
    <dl>
      ${HELP.map(([key, what]) => html`<div><dt><kbd>${key}</kbd></dt><dd>${what}</dd></div>`)}
    </dl>
    <form method="dialog"><button>Close</button></form>
  </dialog>`;
}

function isWriting(target) {
  const box = target.closest?.("input, textarea, select, [contenteditable], dialog");
  return Boolean(box) && !["checkbox", "radio", "range"].includes(box.type);
}
