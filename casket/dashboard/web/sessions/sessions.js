import { useEffect, useMemo, useState } from "preact/hooks";

import { SETTINGS, cellOfGroup } from "casket/model/arrange";
import { valueOf } from "casket/model/facts";
import { csv, download } from "casket/model/files";
import * as listing from "casket/model/listing";
import { source } from "casket/model/page";
import { state, update } from "casket/model/view";
import { ColumnMenu, GroupMenu } from "casket/sessions/columns";
import { Summary } from "casket/sessions/summary";
import { Table } from "casket/sessions/table";
import { Segments } from "casket/shell/controls";
import { html } from "casket/shell/html";
import { Icon } from "casket/shell/icons";
import { NothingFits } from "casket/shell/states";
import { Filter } from "casket/where/filter";

/** The charts that are open at first. */
const MOST_CHARTS = 2;

// The table does not wait for the modules that draw the curves.
const curves = import("casket/curves/curves");

/** The first page: the best sessions, the curves, and the table below them. */
export function Sessions() {
  const isEmpty = listing.rows.value.length === 0 && state.value.where !== "";
  return html`<div class="sessions">
    <${Summary} />
    <${LaterCurves} />
    <section class="listing" aria-label="Table of sessions">
      <${TableBar} />
      ${isEmpty ? html`<${NothingFits} />` : html`<${Table} />`}
    </section>
  </div>`;
}

/** The curves, when they can be drawn; they follow the table, so that it answers at once. */
function LaterCurves() {
  const [Curves, setCurves] = useState(/** @type {any} */ (null));
  const [parts, setParts] = useState(null);
  const drawn = listing.charted.value;
  useEffect(() => {
    curves.then((module) => setCurves(() => module.Curves));
  }, []);
  useEffect(() => {
    const frame = requestAnimationFrame(() => setTimeout(setParts, 0, drawn.parts));
    return () => cancelAnimationFrame(frame);
  }, [drawn]);
  const made = useMemo(
    () => Curves && parts && html`<${Curves} parts=${parts} most=${MOST_CHARTS} hasLegend />`,
    [Curves, parts],
  );
  return made || html`<section class="curves" aria-label="Curves"></section>`;
}

function TableBar() {
  const { selected, show, unfinished, hidden } = state.value;
  const [problem, setProblem] = useState("");
  const count = selected.length;
  const save = async () => {
    setProblem("");
    const items = listing.items.peek();
    const columns = listing.columns.peek().flatMap((name) => (name === SETTINGS ? settings() : [name]));
    try {
      const whole = withValues(items, await source.values());
      download("sessions.csv", tableAsCsv(whole, columns), "text/csv");
    } catch (error) {
      setProblem(error.message);
    }
  };
  return html`<div class="bar">
    <${Filter} />
    <${GroupMenu} />
    <${Segments}
      label="Show"
      value=${count ? "" : show}
      options=${{ 10: "10", 20: "20", 100: "100", all: "all" }}
      onChange=${(most) => update({ show: most, selected: [] })}
    />
    <label class="field">
      <input
        type="checkbox"
        checked=${unfinished}
        onChange=${(event) => update({ unfinished: event.target.checked })}
      />
      Running only
    </label>
    ${hidden.length > 0 &&
    html`<button type="button" class="chip" onClick=${() => update({ hidden: [] })}>
      ${hidden.length} hidden <${Icon} name="close" />
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
    <${ColumnMenu} />
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

function settings() {
  return listing.varying.peek().filter((name) => name.startsWith("params."));
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

/** Returns the table as CSV, in its order; of groups, mean, margin and n. */
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
