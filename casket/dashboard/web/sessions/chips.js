import { headOf } from "casket/model/arrange";
import { shown, valueOf, varyingNames } from "casket/model/facts";
import { data } from "casket/model/page";
import { html } from "casket/shell/html";

const MOST = 6;
const SHORT = { __proto__: null, batch_size: "bs", learning_rate: "lr", random_state: "seed" };

/**
 * Returns a session's values of the params in which sessions differ, as `{name, text}`; of a child,
 * the params that its parent lacks.
 */
export function chipsOf(row, varying) {
  const parent = data.parentOf(row);
  return (parent ? varyingNames([parent, row]) : varying)
    .filter((name) => name.startsWith("params."))
    .map((name) => ({ name: headOf(name), value: valueOf(row, name) }))
    .filter(({ value }) => value !== undefined && value !== null && value !== "")
    .slice(0, MOST)
    .map(({ name, value }) => ({
      name, short: SHORT[name] ?? name, text: shown(value), isWord: typeof value === "string",
    }));
}

/** Params as chips; the name of a text is in its title only. */
export function Chips({ chips, isWinner }) {
  return html`<span class=${isWinner ? "chips is-winner" : "chips"}>
    ${chips.map(
      ({ name, short, text, isWord }) => html`<span class="chip-of" title=${`${name} = ${text}`}>
        ${!isWord && html`<span class="dim">${short}${" "}</span>`}${text}
      </span>`,
    )}
  </span>`;
}
