import { BestSoFar } from "casket/explore/best_so_far";
import { better, differing, flatten, isNumber, numericNames, valueOf } from "casket/model/facts";
import { SearchMap } from "casket/explore/heatmap";
import { html } from "casket/shell/html";
import { Importance } from "casket/explore/importance";
import { hasSearch, mainMetric, scoreColumn } from "casket/model/metrics";
import { Parallel, brushOf, fitting } from "casket/explore/parallel";
import { Choice, Scatter } from "casket/explore/scatter";
import { rankedParams } from "casket/model/statistics";
import { useEffect, useMemo, useReducer, useRef } from "preact/hooks";
import * as listing from "casket/model/listing";
import { data } from "casket/model/page";
import { chooseExplore, state } from "casket/model/view";

const MOST_AXES = 7;
const MOST_NAMES = 300;
const PAUSE = 2000;

/** Charts over the sessions of the table: the influence of params on a score, and its progress. */
export function Explore() {
  const { where, explore } = state.value;
  const now = { rows: listing.rows.value, allRows: data.rows.value };
  const { rows, allRows } = useCalm(now, where);
  const names = useMemo(() => namesOf(rows.length ? rows : allRows), [rows, allRows]);
  const metric = names.scores.includes(explore.metric)
    ? explore.metric
    : firstScore(names.scores, listing.goal.value, rows);
  const { brushed, base } = brushOf(state.value, allRows);
  if (!allRows.length) return html`<p class="empty">There are no sessions to explore yet.</p>`;
  const mode = explore.mode ?? better(metric ?? "") ?? "max";
  const searches = rows.filter(hasSearch);
  return html`<section class="explore" aria-label="Explore">
    ${metric
      ? html`<${Header} ...${{ rows, names, metric, mode }} />
          <${Scored} ...${{ rows, allRows, names, metric, mode, brushed, base }} />`
      : html`<p class="empty">
          No session that passes the filter has logged a number, so there is nothing to put on an
          axis. Clear the filter, or log one: <code>session.add_epoch(1, {"loss": 0.5})</code>.
        </p>`}
    <${Searches} searches=${searches} />
  </section>`;
}

/**
 * Delays the changes of running sessions: charts that change constantly cannot be read, and a
 * change while an area is being drawn on a chart discards the area.
 */
function useCalm({ rows, allRows }, where) {
  const kept = useRef({ time: -Infinity, rows, allRows, where: "" });
  const isPressed = usePressed();
  const [, again] = useReducer((turn) => turn + 1, 0);
  const isNew = kept.current.time < 0 || kept.current.rows !== rows || kept.current.allRows !== allRows;
  const isDue = performance.now() - kept.current.time >= PAUSE && !isPressed.current;
  if (isNew && (isDue || kept.current.where !== where)) {
    kept.current = { rows, allRows, where, time: performance.now() };
  }
  const isHeldBack = kept.current.rows !== rows || kept.current.allRows !== allRows;
  useEffect(() => {
    if (!isHeldBack) return undefined;
    const timer = setInterval(again, PAUSE);
    return () => clearInterval(timer);
  }, [isHeldBack]);
  return kept.current;
}

function usePressed() {
  const isPressed = useRef(false);
  useEffect(() => {
    const press = () => (isPressed.current = true);
    const release = () => (isPressed.current = false);
    addEventListener("pointerdown", press);
    addEventListener("pointerup", release);
    addEventListener("pointercancel", release);
    return () => {
      removeEventListener("pointerdown", press);
      removeEventListener("pointerup", release);
      removeEventListener("pointercancel", release);
    };
  }, []);
  return isPressed;
}

function Header({ rows, names, metric, mode }) {
  return html`<div class="bar">
    <${Choice} label="score" value=${metric} names=${names.scores}
      onChange=${(value) => chooseExplore({ metric: value, mode: undefined })} />
    <${Choice} label="better is" value=${mode === "min" ? "lower" : "higher"}
      names=${["lower", "higher"]}
      onChange=${(value) => chooseExplore({ mode: value === "lower" ? "min" : "max" })} />
    <p class="muted">Over the ${rows.length} sessions that pass the table's filter.</p>
  </div>`;
}

function Scored({ rows, allRows, names, metric, mode, brushed, base }) {
  // Brushing changes neither the axes nor their order.
  const ranked = useMemo(
    () => rankedParams(fitting(allRows, base), metric),
    [allRows, base, metric],
  );
  const { explore } = state.value;
  const x = explore.x ?? ranked[0] ?? "epochs";
  const usual = useMemo(() => [...ranked.slice(0, MOST_AXES - 1), metric], [ranked, metric]);
  const axes = explore.axes ?? usual;
  return html`
    <div class="pair">
      <${BestSoFar} ...${{ rows, metric, mode }} />
      <${Importance} ...${{ rows, metric, chosen: x }} onChoose=${(name) => chooseExplore({ x: name })} />
    </div>
    <${Scatter}
      ...${{ rows, x, y: explore.y ?? metric, color: explore.color ?? ranked[1] ?? "" }}
      ...${{ logX: explore.logX, logY: explore.logY, names: names.all }}
      choose=${(changes) => chooseExplore(withoutLog(changes))}
    />
    ${axes.length > 0 &&
    html`<${Parallel} ...${{ allRows, names: axes, metric, mode, brushed, base }}>
      <${Axes} ...${{ axes, names: names.all }} />
    <//>`}
  `;
}

// The scale of an axis belongs to the fact that it showed.
function withoutLog(changes) {
  if ("x" in changes) return { ...changes, logX: undefined };
  return "y" in changes ? { ...changes, logY: undefined } : changes;
}

function Axes({ axes, names }) {
  const drop = (name) => chooseExplore({ axes: axes.filter((other) => other !== name) });
  const add = (name) => name && chooseExplore({ axes: [...axes, name] });
  const rest = names.filter((name) => !axes.includes(name));
  return html`<div class="bar axes" role="group" aria-label="Axes of the parallel coordinates">
    ${axes.map(
      (name) => html`<button type="button" key=${name} class="chip"
        aria-label=${`Leave out the axis ${name}`} onClick=${() => drop(name)}>
        ${name} <span aria-hidden="true">×</span>
      </button>`,
    )}
    <${Choice} label="add an axis" value="" names=${["", ...rest]} onChange=${add} />
  </div>`;
}

function Searches({ searches }) {
  const { search } = state.value.explore;
  if (!searches.length) return null;
  const row = searches.find(({ key }) => key === search) ?? searches.at(-1);
  const names = new Map(searches.map((each) => [`${each.model} ${each.id.slice(0, 8)}`, each.key]));
  const chosen = [...names.keys()].find((name) => names.get(name) === row.key);
  return html`
    ${searches.length > 1 &&
    html`<div class="bar">
      <${Choice} label="grid search" value=${chosen} names=${[...names.keys()]}
        onChange=${(name) => chooseExplore({ search: names.get(name), slices: undefined })} />
    </div>`}
    <${SearchMap} key=${row.key} row=${row} />
  `;
}

function namesOf(rows) {
  const numeric = numericNames(rows);
  const scores = numeric.filter((name) => !name.startsWith("params."));
  const tables = rows.map((row) => flatten(row.params, "params."));
  const params = differing(tables).slice(0, MOST_NAMES);
  const all = [...new Set([...params, ...scores, "status", "experiment", "model"])];
  return { scores: scores.filter((name) => hasNumber(rows, name)), all };
}

function hasNumber(rows, name) {
  return rows.some((row) => isNumber(valueOf(row, name)));
}

function firstScore(scores, goal, rows) {
  const main = goal || mainMetric(rows);
  return [scoreColumn(rows, main), ...scores].find((name) => scores.includes(name));
}
