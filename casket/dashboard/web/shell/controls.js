import { useLayoutEffect, useRef } from "preact/hooks";

import { html, useElement } from "casket/shell/html";
import { Icon } from "casket/shell/icons";

const MARGIN = 12;
const ENOUGH = 420;
let made = 0;

/** A few exclusive choices side by side. */
export function Segments({ label, value, options, onChange }) {
  const name = useRef(`choice-${(made += 1)}`).current;
  return html`<fieldset class="segments">
    <legend>${label}</legend>
    ${Object.entries(options).map(
      ([key, text]) => html`<label>
        <input
          type="radio"
          name=${name}
          value=${key}
          checked=${key === value}
          onChange=${() => onChange(key)}
        />
        <span>${text}</span>
      </label>`,
    )}
  </fieldset>`;
}

/** A button that opens its content; Escape or a click elsewhere closes it. */
export function Menu({ label, name, isQuiet, isRight, children, onOpen }) {
  /** @type {{current: HTMLDetailsElement}} */
  const box = useElement();
  // An effect after painting may come when the menu, such as that of a legend, is gone already.
  useLayoutEffect(() => {
    const leave = (event) => {
      if (box.current?.contains(event.target) === false) box.current.open = false;
    };
    document.addEventListener("pointerdown", leave);
    document.addEventListener("focusin", leave);
    return () => {
      document.removeEventListener("pointerdown", leave);
      document.removeEventListener("focusin", leave);
    };
  }, []);
  const onKeyDown = (event) => {
    if (event.key !== "Escape" || !box.current.open) return;
    event.stopPropagation();
    box.current.open = false;
    box.current.querySelector("summary")?.focus();
  };
  const onToggle = () => {
    if (!box.current.open) return;
    place(box.current);
    onOpen?.();
  };
  return html`<details
    class=${`menu${isQuiet ? " is-quiet" : ""}${isRight ? " is-right" : ""}`}
    ref=${box}
    onKeyDown=${onKeyDown}
    onToggle=${onToggle}
  >
    <summary aria-label=${name} title=${name}>
      ${label}${!isQuiet && html`<${Icon} name="open" />`}
    </summary>
    <div class="sheet">${children}</div>
  </details>`;
}

/** Opens a menu to where there is more room, and no larger than that. */
function place(box) {
  const { top, bottom } = box.getBoundingClientRect();
  const start = document.querySelector("main")?.getBoundingClientRect().top ?? 0;
  const above = top - start - MARGIN;
  const below = innerHeight - bottom - MARGIN;
  const isUp = below < ENOUGH && above > below;
  box.classList.toggle("is-up", isUp);
  box.querySelector(".sheet").style.maxHeight = `${Math.max(isUp ? above : below, 160)}px`;
}
