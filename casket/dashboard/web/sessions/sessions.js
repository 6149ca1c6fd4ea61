import { useEffect, useMemo, useState } from "preact/hooks";

import { cellOfGroup } from "casket/model/arrange";
import { ColumnMenu, GroupMenu } from "casket/sessions/columns";
import { Segments } from "casket/shell/controls";
import { csv, download } from "casket/model/files";
import { valueOf } from "casket/model/facts";
import { Filter } from "casket/where/filter";
import { html } from "casket/shell/html";
import { Icon } from "casket/shell/icons";
import { NothingFits } from "casket/shell/states";
import { Summary } from "casket/sessions/summary";
import { Table } from "casket/sessions/table";

// The table need not wait for what draws the curves.
const curves = import("casket/curves/curves");

/** The first page: what is best, the curves, and the table below them. */
export function Sessions(props) {
  const { data, state, update, rows, goal, varying } = props;
  const summary = useMemo(
    () => html`<${Summary} ...${props} total=${data.rows.length} />`,
    [rows, data.rows.length, goal, state],
  );
  return html`<div class="sessions">
    ${summary}
    <${LaterCurves} ...${props} />
    <section class="listing" aria-label="Table of sessions">
      <${TableBar} ...${props} />
      ${rows.length === 0 && state.where
        ? html`<${NothingFits} where=${state.where} ...${{ update, varying, data }} />`
        : html`<${Table} ...${props} />`}
    </section>
  </div>`;
}

/** The curves, when they can be drawn; they follow the table, so that it answers at once. */
function LaterCurves(props) {
  const [Curves, setCurves] = useState(null);
  const [parts, setParts] = useState(null);
  const { drawn, state, paint, goal } = props;
  useEffect(() => {
    curves.then((module) => setCurves(() => module.Curves));
  }, []);
  useEffect(() => {
    const frame = requestAnimationFrame(() => setTimeout(setParts, 0, drawn.parts));
    return () => cancelAnimationFrame(frame);
  }, [drawn]);
  const { kind, x, smooth, log, band, range, metrics, group } = state;
  const made = useMemo(
    () => Curves && parts && html`<${Curves} ...${props} parts=${parts} />`,
    [Curves, parts, paint, goal, kind, x, smooth, log, band, range, metrics, group],
  );
  return made || html`<section class="curves" aria-label="Curves"></section>`;
}

function TableBar(props) {
  const { data, source, state, update, items, columns, varying, fitCount } = props;
  const [problem, setProblem] = useState("");
  const count = state.selected.length;
  const save = async () => {
    setProblem("");
    try {
      const whole = withValues(items, await source.values());
      download("sessions.csv", tableAsCsv(whole, columns), "text/csv");
    } catch (error) {
      setProblem(error.message);
    }
  };
  return html`<div class="bar">
    <${Filter} ...${props} rows=${data.rows} count=${fitCount} />
    <${GroupMenu} rows=${data.rows} ...${{ varying, state, update }} />
    <${Segments}
      label="Draw"
      value=${count ? "" : state.show}
      options=${{ 10: "10", 20: "20", 100: "100", all: "all" }}
      onChange=${(show) => update({ show, selected: [] })}
    />
    <label class="field">
      <input
        type="checkbox"
        checked=${state.unfinished}
        onChange=${(event) => update({ unfinished: event.target.checked })}
      />
      Hide finished
    </label>
    ${state.hidden.length > 0 &&
    html`<button type="button" class="chip" onClick=${() => update({ hidden: [] })}>
      ${state.hidden.length} hidden <${Icon} name="close" />
    </button>`}
    ${count > 0 &&
    html`<span class="chosen">
      <button type="button" class="primary" onClick=${() => update({ view: "compare" })}>
        Compare ${count}
      </button>
      <button
        type="button"
        class="quiet"
        aria-label="Select none"
        title="Select none"
        onClick=${() => update({ selected: [] })}
      >
        <${Icon} name="close" />
      </button>
    </span>`}
    <span class="space"></span>
    <${ColumnMenu}
      rows=${data.rows}
      ...${{ columns, update }}
      isChosen=${state.columns !== null}
    />
    <button
      type="button"
      title="The rows and columns below, in their order, with all digits"
      onClick=${save}
    >
      CSV
    </button>
    ${problem && html`<p class="trouble" role="alert">Not saved: ${problem}</p>`}
  </div>`;
}

/** Returns items with the values of their rows replaced by those in full, by key. */
function withValues(items, values) {
  const whole = (row) => ({ ...row, ...values[row.key] });
  return items.map((item) =>
    item.row
      ? { ...item, row: whole(item.row) }
      : { ...item, group: { ...item.group, rows: item.group.rows.map(whole) } },
  );
}

/** Returns what the table shows as CSV, in its order; of groups, mean, margin and n. */
export function tableAsCsv(items, columns) {
  const hasGroups = items.some((item) => item.group);
  if (!hasGroups) {
    const rows = items.map(({ row }) => [row.id, ...columns.map((name) => valueOf(row, name))]);
    return csv([["id", ...columns], ...rows]);
  }
  const wide = columns.map((name) =>
    items.some(({ group }) => group && cellOfGroup(group, name)?.mean !== undefined),
  );
  const spread = (values) =>
    values.flatMap((value, i) => {
      if (!wide[i]) return [value];
      return value?.mean === undefined ? [value, null, null] : [value.mean, value.margin, value.n];
    });
  const head = columns.flatMap((name, i) =>
    wide[i] ? [name, `${name} margin`, `${name} n`] : [name],
  );
  const rows = items.map(({ row, group }) =>
    row
      ? [row.id, 1, ...spread(columns.map((name) => valueOf(row, name)))]
      : ["", group.rows.length, ...spread(columns.map((name) => cellOfGroup(group, name)))],
  );
  return csv([["id", "n", ...head], ...rows]);
}
