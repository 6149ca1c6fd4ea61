import { SessionLink } from "casket/session/session_link";
import { isNumber, own, restored, shown, shownNumber } from "casket/model/facts";
import { html } from "casket/shell/html";
import { Choice } from "casket/explore/scatter";
import { useEffect, useMemo, useState } from "preact/hooks";
import { source } from "casket/model/page";
import { chooseExplore, state } from "casket/model/view";

const MOST_VALUES = 60;
const NOT_GIVEN = "not given";
const BEST = "the best of all";

/** The scores of a grid search by two of its params; the others by choice. */
export function SearchMap({ row }) {
  const [grid, setGrid] = useState(null);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    let isGone = false;
    source.heatmap(row.key).then(
      (answer) => !isGone && setGrid(answer),
      (error) => !isGone && setProblem(error.message),
    );
    return () => {
      isGone = true;
    };
  }, [row.key, row.counts.result]);
  if (problem) return html`<p role="alert">The grid search cannot be shown: ${problem}</p>`;
  if (!grid) return html`<p class="muted">The grid search is being read…</p>`;
  return html`<${Grid} ...${{ row, grid }} />`;
}

function Grid({ row, grid }) {
  const { explore: options } = state.value;
  const values = useMemo(() => valuesOf(grid), [grid]);
  const names = [...values.keys()].sort((a, b) => values.get(b).length - values.get(a).length);
  const scorer = grid.scorers.includes(options.scorer) ? options.scorer : grid.scorers[0];
  const x = names.includes(options.across) ? options.across : names[0];
  const y = [options.down, ...names].find((name) => names.includes(name) && name !== x);
  const others = names.filter((name) => name !== x && name !== y);
  const slices = Object.fromEntries(
    others.map((name) => [name, own(options.slices, name) ?? BEST]),
  );
  const found = useMemo(
    () => cellsOf(grid, { scorer, x, y, slices }),
    [grid, scorer, x, y, JSON.stringify(slices)],
  );
  const slice = (name, value) => chooseExplore({ slices: { ...slices, [name]: value } });
  return html`<section class="chart-card" aria-label="Grid search">
    <h2>
      Grid search of ${row.model}${" "}<small><${SessionLink} row=${row} /></small>
    </h2>
    <div class="bar">
      <${Choice} label="score" value=${scorer} names=${grid.scorers}
        onChange=${(value) => chooseExplore({ scorer: value })} />
      <${Choice} label="across" value=${x} names=${names}
        onChange=${(value) => chooseExplore({ across: value, down: value === y ? x : y })} />
      ${y &&
      html`<${Choice} label="down" value=${y} names=${names}
        onChange=${(value) => chooseExplore({ down: value, across: value === x ? y : x })} />`}
      ${others.map(
        (name) => html`<${Choice} key=${name} label=${name} value=${slices[name]}
          names=${[BEST, ...values.get(name)]} onChange=${(value) => slice(name, value)} />`,
      )}
    </div>
    <${Table} ...${{ found, x, y, scorer, columns: values.get(x), lines: values.get(y) ?? [""] }} />
    <p class="muted">${said(grid, found, others)}</p>
  </section>`;
}

function said(grid, found, others) {
  const searched = `${grid.cells.length + grid.left_out} candidates`;
  const parts = [`${searched}; mean ± standard deviation over the folds.`];
  parts.push(" The stronger the tint, the better.");
  if (others.length) parts.push(` A cell shows the best candidate of those it stands for.`);
  if (found.withoutScore) parts.push(` ${found.withoutScore} have no number for this score.`);
  if (grid.left_out) parts.push(` ${grid.left_out} candidates beyond the most are left out.`);
  return parts.join("");
}

function Table({ found, x, y, scorer, columns, lines }) {
  const wide = columns.slice(0, MOST_VALUES);
  const long = lines.slice(0, MOST_VALUES);
  const isCut = wide.length < columns.length || long.length < lines.length;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Scores">
    <table class="heat">
      <caption>${scorer} by ${x}${y ? ` across and ${y} down` : ""}</caption>
      <thead>
        <tr>
          <th scope="col">${y ? `${y} ↓ ${x} →` : x}</th>
          ${wide.map((value) => html`<th scope="col" key=${value}>${value}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${long.map(
          (line) => html`<tr key=${line}>
            <th scope="row">${line}</th>
            ${wide.map(
              (column) =>
                html`<${HeatCell} key=${column} order=${found.order}
                  cell=${found.cells.get(cellKey(column, line))} />`,
            )}
          </tr>`,
        )}
      </tbody>
    </table>
    ${isCut &&
    html`<p class="muted">
      The first ${MOST_VALUES} values each way of ${columns.length} × ${lines.length}: for a search
      at random, the scatter says more.
    </p>`}
  </div>`;
}

function HeatCell({ cell, order }) {
  if (!cell) return html`<td class="muted" title="no such candidate">–</td>`;
  const strength = order.length > 1 ? order.indexOf(cell.mean) / (order.length - 1) : 1;
  const params = Object.entries(cell.params).map(([name, value]) => `${name}: ${shown(value)}`);
  return html`<td
    class="ranked"
    style=${{ "--strength": strength }}
    title=${params.join("\n")}
  >
    ${shownNumber(cell.mean, 4)}
    ${isNumber(cell.std) && html`<small> ± ${shownNumber(cell.std, 2)}</small>`}
    ${order.length > 1 && cell.mean === order.at(-1) && html` <span class="best">★ best</span>`}
  </td>`;
}

function valuesOf(grid) {
  const found = new Map();
  for (const [name, values] of Object.entries(grid.params)) {
    const isEverywhere = grid.cells.every(({ params }) => Object.hasOwn(params, name));
    found.set(name, [...values.map(shownValue), ...(isEverywhere ? [] : [NOT_GIVEN])]);
  }
  return found;
}

function shownValue(value) {
  return value === null ? "None" : shown(restored(value));
}

function valueIn(params, name) {
  return Object.hasOwn(params, name) ? shownValue(params[name]) : NOT_GIVEN;
}

function cellKey(column, line) {
  return JSON.stringify([column, line]);
}

// scikit-learn's scores are all better when higher: losses are negated.
function cellsOf(grid, { scorer, x, y, slices }) {
  const cells = new Map();
  let withoutScore = 0;
  for (const { params, scores } of grid.cells) {
    const chosen = Object.entries(slices);
    if (chosen.some(([name, v]) => v !== BEST && valueIn(params, name) !== v)) continue;
    const mean = restored(scores[scorer]?.mean);
    if (!isNumber(mean)) {
      withoutScore += 1;
      continue;
    }
    const key = cellKey(valueIn(params, x), y ? valueIn(params, y) : "");
    if (mean > (cells.get(key)?.mean ?? -Infinity)) {
      cells.set(key, { mean, std: restored(scores[scorer].std), params });
    }
  }
  const means = new Set([...cells.values()].map(({ mean }) => mean));
  return { cells, withoutScore, order: [...means].sort((a, b) => a - b) };
}
