import { Curves } from "casket/curves/curves";
import { groupsInOrder, groupsOf, headOf, keptParts } from "casket/model/arrange";
import {
  better,
  flatten,
  digitsApart,
  isNumber,
  own,
  restored,
  shown,
  shownNumber,
  shownTime,
  withMargin,
} from "casket/model/facts";
import { html } from "casket/shell/html";
import { SessionLink } from "casket/session/session_link";
import { interval } from "casket/model/statistics";
import { useRef, useState } from "preact/hooks";
import * as listing from "casket/model/listing";
import { chooseExplore, state, update } from "casket/model/view";
import { colorOf } from "casket/shell/paint";

const MOST_COLUMNS = 50;
const MOST_CHARTS = 3;
const FIRST_LINES = 200;
const MOST_OF_CHANGE = 3;
const WAYS = { min: "↓", max: "↑" };
const FEW = 3;
const CODE = ["commit", "dirty", "branch"];
/** Facts in which nearly all processes differ. */
const OF_PROCESS = ["pid", "start", "command_line", "user"];

/** The selected sessions, or groups of them, side by side; differences first. */
export function Compare() {
  const { group, explore } = state.value;
  const columns = columnsOf(listing.rows.value, listing.selected.value, group);
  if (columns.length < 2) return html`<${NothingToCompare} />`;
  const isWhole = explore.all === true;
  const setWhole = (event) => chooseExplore({ all: event.target.checked || undefined });
  const shownColumns = columns.slice(0, MOST_COLUMNS);
  const sections = sectionsOf(shownColumns);
  const baseline = shownColumns.find(({ key }) => key === explore.baseline) ?? shownColumns[0];
  return html`<section class="compare" aria-label="Comparison">
    <div class="bar">
      <label>
        <input class="equal-rows" type="checkbox" checked=${isWhole} onChange=${setWhole} />
        ${" "}Show equal rows
      </label>
      <label class="choice">
        Baseline
        <select
          class="baseline"
          value=${baseline.key}
          onChange=${(event) => chooseExplore({ baseline: event.target.value })}
        >
          ${shownColumns.map((column) => html`<option value=${column.key}>${titleOf(column)}</option>`)}
        </select>
      </label>
      <p><span class="better">better</span>${" "}<span class="worse">worse</span>
        ${" "}<span class="muted">than the baseline. ★ best of its row</span></p>
      <p class="muted">${summaryOf(columns, shownColumns, sections)}</p>
    </div>
    <${CurvesOf} columns=${shownColumns} />
    <div class="scroll" tabindex="0" role="region" aria-label="Comparison table">
      <table class="side-by-side">
        <${Heads} columns=${shownColumns} />
        ${sections.map(
          (section) =>
            html`<${Section} key=${section.title} ...${section} columns=${shownColumns}
              isWhole=${isWhole} baseline=${shownColumns.indexOf(baseline)} />`,
        )}
      </table>
    </div>
  </section>`;
}

/** The curves of what is compared; none where no column has any. */
function CurvesOf({ columns }) {
  const parts = useRef([]);
  const now = columns.map((column) => ({
    key: column.key, label: titleOf(column), name: column.row?.name, rows: column.rows,
  }));
  parts.current = keptParts(now, parts.current);
  const isLogged = ({ rows }) => rows.some(({ counts }) => counts.epoch || counts.batch);
  return columns.some(isLogged) && html`<${Curves} parts=${parts.current} most=${MOST_CHARTS} />`;
}

function titleOf({ row, title }) {
  return row ? `${row.name} ${row.id.slice(0, 6)}` : title;
}

function NothingToCompare() {
  return html`<div class="empty">
    <h2>Nothing to compare yet</h2>
    <p>
      Select two sessions or more in the table (with the boxes, or the space bar), then come back
      here: params, metrics and code stand side by side, what differs first.
    </p>
    <p>Or group the table by params: then the groups are compared, as mean ± 95 % interval.</p>
    <button type="button" onClick=${() => update({ view: "sessions" })}>
      To the sessions
    </button>
  </div>`;
}

// A column is {key, rows, row or title}: a session, or a group of sessions.

function columnsOf(rows, selected, group) {
  if (!group.length) return selected.map((row) => ({ key: row.key, row, rows: [row] }));
  const found = groupsOf(selected.length > 1 ? selected : rows, group);
  return groupsInOrder(found, "").map(({ key, values, rows: own }) => {
    const title = group.map((name, i) => `${headOf(name)} = ${shown(values[i]) || "–"}`).join(", ");
    return { key, title, rows: own };
  });
}

function byValue(a, b) {
  if (isNumber(a) && isNumber(b)) return a - b;
  return shown(a).localeCompare(shown(b));
}

function summaryOf(columns, shownColumns, sections) {
  const all = sections.reduce((sum, { lines }) => sum + lines.length, 0);
  const differ = sections.reduce((sum, s) => sum + s.lines.filter((l) => l.differs).length, 0);
  const what = columns[0].row ? "sessions" : "groups";
  const rest = columns.length - shownColumns.length;
  const isPartial = shownColumns.some(({ rows }) => rows.some((row) => row.partial?.length));
  return [
    `${columns.length} ${what}; ${differ} of ${all} facts differ.`,
    rest > 0 && ` The first ${MOST_COLUMNS} are shown, ${rest} are not: select fewer.`,
    isPartial && " Some params are many or long and are cut here; a session's page has all.",
  ].filter(Boolean).join("");
}

// A section is {title, lines}, with isFolded if it is minor; a line {name, cells, differs}; a
// cell {text, key, number}, where cells differ if their keys do: two numbers may look alike.

function sectionsOf(columns) {
  const groupLines = (group) => linesOf(columns, (row) => flatten(row[group]));
  const meta = groupLines("meta");
  const named = (names) => meta.filter(({ name }) => names.includes(name));
  const process = [...linesOf(columns, timesOf), ...named(OF_PROCESS)];
  const rest = meta.filter(({ name }) => !CODE.includes(name) && !OF_PROCESS.includes(name));
  return [
    { title: "Params", lines: groupLines("params") },
    { title: "Metrics, last value", lines: metricLines(columns, "last") },
    { title: "Metrics, best value", lines: metricLines(columns, "best") },
    { title: "Code", lines: CODE.flatMap((name) => named([name])) },
    { title: "Config of the model", lines: groupLines("config") },
    { title: "Run", lines: linesOf(columns, runOf) },
    { title: "Machine", lines: rest },
    { title: "Process", lines: process, isFolded: true },
  ].filter(({ lines }) => lines.length);
}

function runOf({ experiment, model, status, epochs, tags, note, error }) {
  return {
    experiment, model, status, epochs, tags, note: note || undefined, error: error ?? undefined,
  };
}

function timesOf({ started, duration }) {
  return { started: shownTime(started), duration };
}

function linesOf(columns, tableOf) {
  const tables = columns.map(({ rows }) => rows.map(tableOf));
  const names = new Set(tables.flat().flatMap(Object.keys));
  const lines = [...names].map((name) => {
    const values = tables.map((table) => table.map((facts) => restored(own(facts, name))));
    const digits = digitsApart(values.flat());
    const cells = values.map((each) => factCell(each, name, digits));
    const missing = cells.filter(({ text }) => text === "").length;
    return { name, differs: differ(cells), cells, missing };
  });
  return lines.sort((a, b) => a.missing - b.missing);
}

function differ(cells) {
  return new Set(cells.map(({ key }) => key)).size > 1;
}

function factCell(values, name, digits) {
  const sorted = [...values].sort(byValue);
  const key = [...new Set(sorted.map((value) => JSON.stringify(value) ?? ""))].join();
  const texts = [...new Set(sorted.map((value) => shown(value, name, digits)))];
  const [number] = values;
  if (texts.length === 1) {
    return { key, text: texts[0], number: typeof number === "number" ? number : undefined };
  }
  const few = texts.map((each) => each || "–").join(" | ");
  const text = texts.length > FEW ? `${texts.length} values` : few;
  return { key, text, title: texts.slice(0, 20).join("\n") };
}

function metricLines(columns, group) {
  const names = new Set(columns.flatMap(({ rows }) => rows.flatMap((r) => Object.keys(r[group]))));
  return [...names].map((name) => {
    const values = columns.map(({ rows }) => rows.map((row) => restored(own(row[group], name))));
    const digits = digitsApart(values.flat());
    const cells = values.map((each) => metricCell(each, digits));
    const marked = withBest(cells, better(name));
    return { name, mode: better(name), cells: marked, differs: differ(cells) };
  });
}

function metricCell(values, digits) {
  const given = values.filter((value) => value !== undefined && value !== null);
  const numbers = given.filter((value) => typeof value === "number");
  if (values.length === 1 || numbers.length < given.length || !numbers.length) {
    return factCell(values, "", digits);
  }
  const { mean, margin, n } = interval(numbers);
  const text = `${withMargin(mean, margin)} (n=${n})`;
  return { key: `${mean} ${margin} ${n}`, text, number: mean };
}

function withBest(cells, mode) {
  const numbers = cells.map(({ number }) => number).filter(isNumber);
  if (!mode || new Set(numbers).size < 2) return cells;
  const best = mode === "min" ? Math.min(...numbers) : Math.max(...numbers);
  return cells.map((cell) => ({ ...cell, isBest: cell.number === best }));
}

function Heads({ columns }) {
  const drop = (key) =>
    update({ selected: state.peek().selected.filter((other) => other !== key) });
  return html`<thead>
    <tr>
      <th scope="col">${columns[0].row ? "session" : "group"}</th>
      ${columns.map(
        ({ key, row, rows, title }) => html`<th scope="col" key=${key}>
          ${row
            ? html`<${SessionLink} ...${{ row, color: colorOf(key) }} />
                ${" "}<button type="button" class="quiet" aria-label=${`Leave out ${row.id}`}
                  title="Leave out" onClick=${() => drop(key)}>×</button>
                <div class="muted"><code>${row.id.slice(0, 6)}</code> ${row.model}</div>`
            : html`${title}
                <div class="muted">${rows.length} session${rows.length > 1 && "s"}</div>`}
        </th>`,
      )}
    </tr>
  </thead>`;
}

function Section({ title, lines, columns, isWhole, isFolded, baseline }) {
  const [most, setMost] = useState(isFolded ? 0 : FIRST_LINES);
  const wanted = lines.filter(({ differs }) => differs);
  if (isWhole) wanted.push(...lines.filter(({ differs }) => !differs));
  const rest = wanted.length - most;
  return html`<tbody>
    <tr class="section">
      <th scope="rowgroup">${title}</th>
      <td colspan=${columns.length} class="muted">${wanted.length ? "" : "all the same"}</td>
    </tr>
    ${wanted.slice(0, most).map(
      ({ name, mode, cells, differs }) => html`<tr key=${name} class=${differs ? "" : "same"}>
        <th scope="row">
          ${name}${mode && html`<span class="muted" aria-hidden="true"> ${WAYS[mode]}</span>`}
        </th>
        ${cells.map((cell, i) => html`<${Cell} key=${columns[i].key} ...${cell} ...${{ mode, differs }}
          of=${cells[baseline]} />`)}
      </tr>`,
    )}
    ${rest > 0 &&
    html`<tr>
      <th scope="row">
        <button type="button" onClick=${() => setMost(most + 5 * FIRST_LINES)}>
          and ${rest} more${!isWhole && " that differ"}
        </button>
      </th>
    </tr>`}
  </tbody>`;
}

/** A value; of a metric how much better or worse than the baseline's it is, in words. */
function Cell({ text, title, key, number, isBest, mode, differs, of }) {
  const isBaseline = key === of.key;
  const change = mode && !isBaseline && isNumber(number) && isNumber(of.number) && number - of.number;
  const isBetter = change && change > 0 === (mode === "max");
  const word = change ? (isBetter ? "better" : "worse") : "";
  const classes = [number !== undefined && "number", word && `is-${word}`, differs && !mode && !isBaseline && "is-other"];
  return html`<td class=${classes.filter(Boolean).join(" ")} title=${title ?? text}>
    <span class="cell">${text || html`<span class="muted">–</span>`}</span>
    ${isBest && html`${" "}<span class="best"><span aria-hidden="true">★</span>
      <span class="hidden-word">best</span></span>`}
    ${word && html`${" "}<span class="delta">${word} <b>${withSign(change)}</b></span>`}
  </td>`;
}

function withSign(change) {
  const text = shownNumber(change, MOST_OF_CHANGE);
  return change > 0 ? `+${text}` : text.replace("-", "−");
}
