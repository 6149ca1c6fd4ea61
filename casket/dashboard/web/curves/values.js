import { useState } from "preact/hooks";

import { indexAt, shownX } from "casket/curves/chart";
import { better, digitsApart, shownNumber } from "casket/model/facts";
import { cursor } from "casket/model/page";
import { html } from "casket/shell/html";

const MOST = 5;

/** The values of a chart's lines where the cursor stands; the last ones where it is nowhere. */
export function Values({ drawing, metrics, kind, x, chartOf }) {
  const { place } = cursor.now.value;
  const [isWhole, setWhole] = useState(false);

  const lines = [...drawing.bands, ...drawing.lines];
  const byKey = new Map();
  for (const line of lines) {
    if (!byKey.has(line.key)) byKey.set(line.key, new Map());
    byKey.get(line.key).set(line.metric, line);
  }
  const order = (place?.order ?? ranked(byKey, metrics)).filter((key) => byKey.has(key));
  const known = new Set(order);
  const rest = [...byKey.keys()].filter((key) => !known.has(key));
  const keys = [...order, ...rest].slice(0, isWhole ? undefined : MOST);
  const valuesOf = (metric) => keys.map((key) => valueAt(byKey.get(key).get(metric), place));
  const digits = new Map(metrics.map((metric) => [metric, digitsApart(valuesOf(metric))]));
  const left = byKey.size - MOST;
  const [from, to] = drawing.extent.x;
  const side = place && place.x > (from + to) / 2 ? "at-left" : "at-right";
  const isShown = place && place.chart === chartOf();
  if (!keys.length) return null;
  const where = place ? `at ${x === "number" || x === "metric" ? `${kind} ` : ""}${shownX(place.x, x)}` : "last";
  const classes = ["values", side, isShown && "is-shown", isWhole && "is-whole"].filter(Boolean);
  return html`<div class=${classes.join(" ")}
    tabindex=${isWhole ? 0 : undefined}>
    <table>
      <thead>
        <tr>
          <th scope="col">${where}</th>
          ${metrics.map((metric) => html`<th scope="col" class="number">${metric}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${keys.map((key) => {
          const first = [...byKey.get(key).values()][0];
          return html`<tr key=${key}>
            <th scope="row">
              <${Swatch} color=${first.color} isDashed=${first.isRepeated} /><span title=${first.label}>${first.name}</span>
              <span class="dim">${" "}${counted([...byKey.get(key).values()], place)}</span>
            </th>
            ${metrics.map(
              (metric) => html`<td class="number">
                ${shownAt(byKey.get(key).get(metric), place, digits.get(metric))}
              </td>`,
            )}
          </tr>`;
        })}
      </tbody>
    </table>
    ${left > 0 &&
    html`<button
      type="button"
      class="quiet more"
      aria-expanded=${isWhole}
      onClick=${() => setWhole(!isWhole)}
    >
      ${isWhole ? `only the first ${MOST}` : `and ${left.toLocaleString("en")} more`}
    </button>`}
  </div>`;
}

/** The color of a curve beside its name, dashed if the color is not its own. */
export function Swatch({ color, isDashed }) {
  const classes = isDashed ? "swatch is-dashed" : "swatch";
  return html`<span class=${classes} style=${{ color }} aria-hidden="true"></span>`;
}

function placeOf(line, place) {
  return place ? indexAt(line, place.x) : line.xs.length - 1;
}

function valueAt(line, place) {
  const at = line?.ys && placeOf(line, place);
  return at === undefined ? undefined : line.ys[at];
}

function shownAt(line, place, digits) {
  const at = line && placeOf(line, place);
  if (at === undefined) return "–";
  return line.mean ? shownBand(line, at) : shownNumber(line.ys[at], digits);
}

/** How many sessions means are of: some have ended, or logged less often. */
function counted(lines, place) {
  const counts = lines
    .filter(({ n }) => n)
    .map((line) => line.n[placeOf(line, place) ?? -1])
    .filter(Boolean);
  if (!counts.length) return "";
  const [least, most] = [Math.min(...counts), Math.max(...counts)];
  return least === most ? `n = ${most}` : `n = ${least} to ${most}`;
}

function shownBand({ mean, low, high, n, band }, at) {
  if (!n[at]) return "–";
  const spread = band === "range"
    ? `${shownNumber(low[at])} to ${shownNumber(high[at])}`
    : `± ${shownNumber(high[at] - mean[at], 2)}`;
  return html`${shownNumber(mean[at])}${n[at] > 1 && html` <small class="dim">${spread}</small>`}`;
}

function lastOf({ ys, mean }) {
  const values = mean ?? ys;
  return values[values.length - 1];
}

/** The keys; those with the best last value first if the direction of the metric is known. */
function ranked(byKey, metrics) {
  const metric = metrics[metrics.length - 1];
  const sign = { min: 1, max: -1 }[better(metric)];
  const keys = [...byKey.keys()];
  if (!sign) return keys;
  const rate = (key) => {
    const line = byKey.get(key).get(metric);
    const value = line ? lastOf(line) : NaN;
    return Number.isNaN(value) ? Infinity : sign * value;
  };
  const rated = keys.map((key) => ({ key, at: rate(key) }));
  return rated.sort((a, b) => (a.at === b.at ? 0 : a.at - b.at)).map(({ key }) => key);
}
