import { useEffect, useState } from "preact/hooks";

import { shownX, valueAt } from "casket/chart";
import { better, shownNumber } from "casket/facts";
import { html } from "casket/html";

const MOST = 5;

/** The values of a chart's lines where the cursor stands; the last ones where it is nowhere. */
export function Values({ drawing, metrics, cursor, parts, kind, x }) {
  const [place, setPlace] = useState(null);
  useEffect(() => cursor.subscribe((now) => setPlace(now.place)), [cursor]);

  const lines = [...drawing.bands, ...drawing.lines];
  const byKey = new Map();
  for (const line of lines) {
    if (!byKey.has(line.key)) byKey.set(line.key, new Map());
    byKey.get(line.key).set(line.metric, line);
  }
  const order = (place?.order ?? ranked(byKey, metrics)).filter((key) => byKey.has(key));
  const known = new Set(order);
  const rest = [...byKey.keys()].filter((key) => !known.has(key));
  const keys = [...order, ...rest].slice(0, MOST);
  const left = byKey.size - keys.length;
  const height = Math.min(parts.length, MOST) + 1;
  if (!keys.length) return null;
  const where = place ? `at ${x === "number" ? `${kind} ` : ""}${shownX(place.x, x)}` : "last";
  return html`<div class="values" style=${{ "--lines": String(height + (left > 0 ? 1 : 0)) }}>
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
              <${Swatch} colour=${first.colour} /><span title=${first.label}>${first.name}</span>
            </th>
            ${metrics.map(
              (metric) => html`<td class="number">
                ${shownAt(byKey.get(key).get(metric), place)}
              </td>`,
            )}
          </tr>`;
        })}
      </tbody>
    </table>
    ${left > 0 && html`<p class="more">and ${left.toLocaleString("en")} more</p>`}
  </div>`;
}

/** The colour of a curve beside its name. */
export function Swatch({ colour }) {
  return html`<span class="swatch" style=${{ background: colour }} aria-hidden="true"></span>`;
}

function shownAt(line, place) {
  if (!line) return "–";
  const value = place ? valueAt(line, place.x) : lastOf(line);
  return value === undefined ? "–" : shownNumber(value);
}

function lastOf({ ys, mean }) {
  const values = mean ?? ys;
  return values[values.length - 1];
}

/** The keys, those with the best last value first where the metric's name tells which is best. */
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
  const rates = new Map(keys.map((key) => [key, rate(key)]));
  return keys.sort((a, b) => (rates.get(a) === rates.get(b) ? 0 : rates.get(a) - rates.get(b)));
}
