import { useState } from "preact/hooks";

import { isNumber, shownNumber } from "casket/model/facts";
import { state, update } from "casket/model/view";
import { Menu } from "casket/shell/controls";
import { html } from "casket/shell/html";

const DIGITS = 4;

/** Chooses where the y axis of a chart ends; an empty end follows the curves. */
export function YRange({ title, extent }) {
  const limits = limitsIn(state.value.ranges, title);
  const [problem, setProblem] = useState("");
  const choose = (at, text) => {
    const next = limits.map((limit, i) => (i === at ? read(text) : limit));
    const isOrdered = next.includes(null) || Number(next[0]) < Number(next[1]);
    setProblem(next.includes(NaN) ? "An end is no number." : isOrdered ? "" : "The ends are in the wrong order.");
    if (!next.includes(NaN) && isOrdered) update({ ranges: withLimits(state.peek().ranges, title, next) });
  };
  const field = (at, word) => html`<label>
    ${word}${" "}
    <input
      type="text"
      inputmode="decimal"
      size="8"
      aria-label=${`${title} ${word}`}
      value=${limits[at] ?? ""}
      placeholder=${shownNumber(extent.y[at], DIGITS)}
      onChange=${(event) => choose(at, event.target.value)}
    />
  </label>`;
  const isSet = limits.some(isNumber);
  return html`<${Menu} isQuiet isRight label=${isSet ? html`<b class="is-set">Y</b>` : "Y"}
    name=${`Y range of ${title}`}>
    <div class="actions">
      <p class="ends">${field(0, "from")} ${field(1, "to")}</p>
      ${problem && html`<p class="trouble" role="alert">${problem}</p>`}
      <button
        type="button"
        disabled=${!isSet}
        onClick=${() => update({ ranges: withLimits(state.peek().ranges, title, [null, null]) })}
      >
        As the curves need
      </button>
    </div>
  <//>`;
}

/** Returns the ends of a chart's y axis in an address; null where it follows the curves. */
export function limitsIn(list, title) {
  const own = list.find((each) => titleIn(each) === title);
  return own ? own.split("~").slice(-2).map((text) => (isNumber(read(text)) ? read(text) : null)) : [null, null];
}

/** Returns the list of an address with other ends of a chart's y axis, as `title~0.3~1`. */
export function withLimits(list, title, limits) {
  const others = list.filter((each) => titleIn(each) !== title);
  return limits.some(isNumber) ? [...others, [title, ...limits.map((limit) => limit ?? "")].join("~")] : others;
}

function titleIn(each) {
  return each.split("~").slice(0, -2).join("~");
}

function read(text) {
  return text.trim() ? Number(text) : null;
}
