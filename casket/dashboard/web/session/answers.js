import { headOf } from "casket/model/arrange";
import { better, factsOf, isNumber, restored, shown, shownNumber, valueOf } from "casket/model/facts";
import * as listing from "casket/model/listing";
import { html } from "casket/shell/html";

const MOST = 3;
const FIGURE_DIGITS = 5;
const CHANGE_DIGITS = 3;
const HELD_OUT = 3;
const LONGEST = 24;
const WAYS = { min: "↓", max: "↑" };

/** The values that describe the quality of a session, compared with the previous session. */
export function Answers({ row, previous }) {
  const names = Object.keys(row.last)
    .filter((name) => isNumber(restored(row.last[name])) && factsOf(name).weight >= HELD_OUT)
    .sort((a, b) => factsOf(b).weight - factsOf(a).weight);
  const goal = listing.goal.value;
  const first = names.includes(goal) ? [goal, ...names.filter((name) => name !== goal)] : names;
  if (!first.length) return null;
  return html`<div class="answers">
    ${first.slice(0, MOST).map(
      (name, i) => html`<div class=${i ? "" : "is-main"}>
        <p>${name} ${WAYS[better(name) ?? ""]}</p>
        <strong title=${String(bestOf(row, name))}>
          ${shownNumber(bestOf(row, name), FIGURE_DIGITS)}
        </strong>
        <p class="dim">${Object.hasOwn(row.best, name)
          ? `best; last ${shown(restored(row.last[name]), name, FIGURE_DIGITS)}`
          : "stored once"}</p>
      </div>`,
    )}
    ${previous && html`<${Against} ...${{ row, previous, name: first[0] }} />`}
  </div>`;
}

function Against({ row, previous, name }) {
  const [own, other] = [bestOf(row, name), bestOf(previous, name)];
  if (!isNumber(own) || !isNumber(other)) return null;
  const change = own - other;
  const isBetter = change > 0 === (better(name) === "max");
  const word = change > 0 ? "higher" : "lower";
  const judged = better(name) && change !== 0 && (isBetter ? "is-better" : "is-worse");
  return html`<div class=${judged || ""}>
    <p>Against the previous session${judged && `: ${isBetter ? "better" : "worse"}`}</p>
    <strong>${change ? `${shownNumber(Math.abs(change), CHANGE_DIGITS)} ${word}` : "equal"}</strong>
    <p class="dim">${name} was ${shownNumber(other, FIGURE_DIGITS)}</p>
  </div>`;
}

/** The params that differ from those of the session before. */
export function Changed({ row, previous }) {
  if (!previous) return null;
  const names = listing.varying.value.filter((name) => name.startsWith("params."));
  const changes = names
    .map((name) => ({ name, from: valueOf(previous, name), to: valueOf(row, name) }))
    .filter(({ from, to }) => JSON.stringify(from) !== JSON.stringify(to));
  const said = (value) => shown(value).slice(0, LONGEST) || "–";
  return html`<p class="changed">
    <b>What changed since the previous session:</b>${" "}
    ${changes.length === 0 && "no param"}
    <span class="chips is-winner">
      ${changes.map(
        ({ name, from, to }) => html`<span class="chip-of">
          ${headOf(name)} <b>${said(from)} → ${said(to)}</b>
        </span>`,
      )}
    </span>
  </p>`;
}

function bestOf(row, name) {
  return restored(row.best[name] ?? row.last[name]);
}
