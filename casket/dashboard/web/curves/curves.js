import { useSignalEffect } from "@preact/signals";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import { overMetric } from "casket/curves/align";
import { Chart } from "casket/curves/chart";
import { drawingOf, isSameDrawing, othersOf } from "casket/curves/drawing";
import { Legend } from "casket/curves/legend";
import { Values } from "casket/curves/values";
import { YRange, limitsIn } from "casket/curves/y_range";
import { download } from "casket/model/files";
import * as listing from "casket/model/listing";
import { charts, hasSearch, namesOf, sectionsOf, wayOf } from "casket/model/metrics";
import { cursor, data, source, store } from "casket/model/page";
import { fields, state, update } from "casket/model/view";
import { SMALL } from "casket/sessions/sparkline";
import { Menu, Segments } from "casket/shell/controls";
import { html, useElement } from "casket/shell/html";
import { Icon } from "casket/shell/icons";
import { painted } from "casket/shell/marks";
import { colorOf, colors, repeatOf, scheme } from "casket/shell/paint";

const POINTS = [[20, 280], [100, 200], [300, 120]];
const FEWEST_POINTS = 80;
const NEAR = 24;
const MOST_NAMES = 200;
const MOST_OTHERS = 200;
const NO_ROWS = [];
const KINDS = ["epoch", "batch"];

const choice = fields(
  "kind", "x", "smooth", "log", "band", "range", "metrics", "group", "outliers", "over", "charts",
  "ranges",
);

/**
 * The charts of the sessions or groups that are drawn: `parts` of `{key, label, rows}`. Beyond the
 * first `most`, or those that are pinned, they are in sections; a single chart below a legend is not.
 */
export function Curves({ parts, kind: firstKind, hasLegend = false, most = Infinity }) {
  const drawnBeside = useOthers(parts, hasLegend);
  const goal = listing.goal.value;
  const given = choice.value;
  const maxPoints = data.maxPoints.value;
  const rows = useMemo(() => parts.flatMap((part) => part.rows), [parts]);
  const logged = useMemo(() => KINDS.filter((kind) => namesOf(rows, kind).length > 0), [rows]);
  const options = useMemo(
    () => withLogged({ ...given, kind: firstKind ?? given.kind }, logged, rows),
    [given, firstKind, logged, rows],
  );
  const { kind, x, range, metrics, group, over } = options;
  const names = useMemo(() => namesOf(rows, kind), [rows, kind]);
  const wanted = names.filter((name) => name !== over && (!metrics || metrics.includes(name)));
  const list = useMemo(() => charts(wanted, goal), [wanted.join("\n"), goal]);
  const points = Math.min(pointsFor(rows.length), maxPoints);
  const view = useMemo(
    () => (over ? { kind, x: "number", points, range: null } : { kind, x, points, range }),
    [kind, x, points, range, over],
  );
  const [wide, widen] = useState("");
  const [open, setOpen] = useState(/** @type {string[]} */ ([]));
  const pinned = list.filter(({ title }) => options.charts.includes(title));
  const atFirst = list.slice(0, list.length > most + Number(hasLegend) ? most : list.length);
  const first = pinned.length && list.length > most ? pinned : atFirst;
  const sections = sectionsOf(list.filter((chart) => !first.includes(chart)));
  const opened = sections.filter(({ title }) => open.includes(title));
  const visible = [...first, ...opened.flatMap((section) => section.charts)];
  const others = over ? NO_ROWS : drawnBeside;

  return html`<section class="curves" aria-label="Curves">
    ${logged.length > 0 &&
    html`<${Controls} ...${{ options, names, logged, isGrouped: group.length > 0 }} />`}
    ${list.length === 0 && html`<${NoCurves} ...${{ rows, options }} />`}
    <div class="board">
    <div class="charts">
      ${visible.map(
        (chart) => html`<${ChartCard}
          key=${chart.title}
          ...${{ chart, parts, rows, view, options, others, most: maxPoints }}
          canPin=${list.length > most}
          isWide=${wide === chart.title}
          onWiden=${() => widen(wide === chart.title ? "" : chart.title)}
        />`,
      )}
    </div>
    ${hasLegend && list.length > 0 && html`<${Legend} ...${{ parts, view, others }} isOverMetric=${over !== ""} />`}
    </div>
    ${sections.length > 0 && html`<${Sections} ...${{ sections, open, setOpen }} />`}
  </section>`;
}

/** The charts that are not open, by the prefixes of their metrics. */
function Sections({ sections, open, setOpen }) {
  const closed = sections.filter(({ title }) => !open.includes(title));
  const rest = closed.flatMap((section) => section.charts.flatMap((chart) => chart.metrics));
  return html`<p class="rest">
    ${sections.map(
      ({ title, charts: own }) => html`<button
        type="button"
        class="quiet"
        key=${title}
        aria-expanded=${open.includes(title)}
        onClick=${() => setOpen(toggled(open, title))}
      >
        <${Icon} name=${open.includes(title) ? "open" : "right"} />
        ${" "}${title || "Other charts"} <b>${own.length}</b>
      </button>`,
    )}
    <span class="dim cut">${rest.slice(0, MOST_NAMES).join(", ")}</span>
  </p>`;
}

/**
 * Returns sessions that are not drawn one by one, whether they pass the filter or not: all, or as
 * many as a band can be made of. A filter that is being written changes nothing.
 */
function useOthers(parts, isWanted) {
  const { group } = choice.value;
  const generation = data.generation.value;
  return useMemo(() => {
    if (!isWanted || group.length) return [];
    const rows = data.rows.peek();
    const drawn = new Set(parts.map((part) => part.key));
    const { hidden } = state.peek();
    const rest = rows.filter(({ key }) => !drawn.has(key) && !hidden.includes(key));
    const step = Math.max(rest.length / MOST_OTHERS, 1);
    return Array.from({ length: Math.min(rest.length, MOST_OTHERS) }, (_, i) => rest[Math.floor(i * step)]);
  }, [parts, generation, isWanted, group]);
}

/** Metrics that were logged by batch only are shown by batch. */
function withLogged(options, logged, rows) {
  const kind = logged.includes(options.kind) ? options.kind : (logged[0] ?? options.kind);
  const over = namesOf(rows, kind).includes(options.over) ? options.over : "";
  return { ...options, kind, over };
}

function NoCurves({ rows, options }) {
  if (!rows.length) {
    return html`<p class="nothing">No session is drawn: ${emptyBecause(state.value)}.</p>`;
  }
  if (options.metrics) {
    return html`<p class="nothing">
      None of the chosen metrics was logged by these sessions.
      <button type="button" onClick=${() => update({ metrics: null })}>Show all metrics</button>
    </p>`;
  }
  if (rows.some(hasSearch)) {
    return html`<p class="nothing">
      These sessions logged the results of a grid search, and no curves.${" "}
      <button type="button" onClick=${() => update({ view: "explore" })}>Explore the search</button>
    </p>`;
  }
  if (rows.some((row) => row.metrics.result.length)) {
    return html`<p class="nothing">
      These sessions logged results, and no curves.${" "}
      <button type="button" onClick=${() => update({ view: "explore" })}>Explore the results</button>
    </p>`;
  }
  return html`<p class="nothing">
    These sessions logged no numbers by ${options.kind}: call${" "}
    <code>session.add_${options.kind}(1, {"loss": 0.5})</code> and they appear here.
  </p>`;
}

function emptyBecause({ where, unfinished, hidden }) {
  if (unfinished) return "none of these runs now, and what is finished is hidden";
  if (hidden.length) return "open an eye in the table";
  return where ? "nothing fits the filter" : "select one in the table";
}

function Controls({ options, names, logged, isGrouped }) {
  const { kind, metrics, smooth } = options;
  return html`<div class="bar" role="group" aria-label="How curves are drawn">
    ${logged.length > 1 &&
    html`<${Segments}
      label="By"
      value=${kind}
      options=${{ epoch: "epoch", batch: "batch" }}
      onChange=${(other) => update({ kind: other, range: null })}
    />`}
    <${Segments}
      label="X axis"
      value=${options.over ? "" : options.x}
      options=${{ number: kind, time: "time", wall: "clock (UTC)" }}
      onChange=${(x) => update({ x, over: "", range: null })}
    />
    ${names.length > 1 &&
    html`<select
      class="over"
      aria-label="A metric as x axis"
      value=${options.over}
      onChange=${(event) => update({ over: event.target.value, range: null })}
    >
      <option value="">or a metric</option>
      ${names.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
    </select>`}
    <label class="field" title="An average that forgets; the raw line stays behind it">
      Smooth
      <input
        type="range"
        min="0"
        max="0.99"
        step="0.01"
        value=${smooth}
        onInput=${(event) => update({ smooth: Number(event.target.value) })}
      />
      <output class="number">${smooth ? smooth.toFixed(2) : "off"}</output>
    </label>
    <label class="field">
      <input
        type="checkbox"
        checked=${options.log}
        onChange=${(event) => update({ log: event.target.checked })}
      />
      Log axis
    </label>
    <label class="field" title="The axis leaves out rare values far from the others; the curves keep them">
      <input
        type="checkbox"
        checked=${!options.outliers}
        onChange=${(event) => update({ outliers: !event.target.checked })}
      />
      Ignore outliers
    </label>
    ${isGrouped &&
    html`<${Segments}
      label="Band"
      value=${options.band}
      options=${{ interval: "95 % interval", range: "lowest to highest" }}
      onChange=${(band) => update({ band })}
    />`}
    ${names.length > 1 &&
    html`<${MetricMenu} ...${{ names, metrics }} />`}
    ${options.range &&
    html`<button type="button" class="chip" onClick=${() => update({ range: null })}>
      zoomed <${Icon} name="close" /><span class="hint">show all</span>
    </button>`}
  </div>`;
}

/** Chooses the drawn metrics, with a search among thousands. */
function MetricMenu({ names, metrics }) {
  const [text, setText] = useState("");
  const [most, setMost] = useState(MOST_NAMES);
  /** @type {{current: HTMLInputElement}} */
  const search = useElement();
  const fitting = names.filter((name) => name.toLowerCase().includes(text.toLowerCase()));
  const toggle = (name) => {
    const chosen = metrics ?? names;
    const left = toggled(chosen, name);
    update({ metrics: names.every((n) => left.includes(n)) ? null : left });
  };
  const label = metrics ? `Metrics ${metrics.length} of ${names.length}` : `Metrics ${names.length}`;
  return html`<${Menu} label=${label} name="Metrics" onOpen=${() => search.current.focus()}>
    <fieldset class="chooser">
      <legend>Metrics that are drawn</legend>
      <input
        ref=${search}
        type="search"
        aria-label="Search metrics"
        placeholder=${`Search ${names.length} metrics`}
        value=${text}
        onInput=${(event) => setText(event.target.value)}
      />
      <p class="both">
        <button type="button" onClick=${() => update({ metrics: null })}>All</button>
        <button type="button" onClick=${() => update({ metrics: [] })}>None</button>
        ${text && fitting.length > 0 &&
        html`<button type="button" onClick=${() => update({ metrics: fitting })}>Only these</button>`}
      </p>
      ${fitting.slice(0, most).map(
        (name) => html`<label class="choice" key=${name}>
          <input
            type="checkbox"
            checked=${!metrics || metrics.includes(name)}
            onChange=${() => toggle(name)}
          />
          <span class="cut" title=${name}>${name}</span>
        </label>`,
      )}
      ${fitting.length > most &&
      html`<button type="button" class="quiet" onClick=${() => setMost(most + MOST_NAMES)}>
        and ${(fitting.length - most).toLocaleString("en")} more
      </button>`}
      ${!fitting.length && html`<p class="hint">No metric has a name like that.</p>`}
    </fieldset>
  <//>`;
}

/** The curves of sessions that are no more than a part of a band. */
function smallOf({ kind, x }) {
  return { ...SMALL, kind, x };
}

function ChartCard(props) {
  const { chart, parts, rows, others, options, most } = props;
  const { over } = options;
  const x = over ? "metric" : options.x;
  const asked = useMemo(() => (over ? [...chart.metrics, over] : chart.metrics), [chart, over]);
  const arrivals = store.arrivals.value;
  const [theme, chartColors] = [scheme.value, colors.value];
  /** @type {{current: HTMLElement}} */
  const host = useElement();
  const made = useRef(/** @type {Chart | null} */ (null));
  const isSeen = useSeen(host);
  const [shownOnce, remember] = useState(/** @type {any} */ (null));
  const isGrouped = options.group.length > 0;
  const view = useMemo(() => {
    const points = Math.min(props.view.points * (props.isWide ? 4 : 1), most);
    return { ...props.view, points };
  }, [props.view, props.isWide, most]);

  const last = useRef(/** @type {any} */ (null));
  const drawing = useMemo(() => {
    if (!isSeen) return null;
    const read = store.reader(view);
    const filled = parts.map((part) => ({
      ...part,
      color: colorOf(part.key),
      repeat: repeatOf(part.key),
      curves: curvesOf(read, chart.metrics, part.rows, over),
    }));
    const { smooth, log: isLog, band: spread, range, outliers } = options;
    const limits = limitsIn(options.ranges, chart.title);
    const given = { smooth, isLog, band: spread, range, x, isGrouped, outliers, limits };
    // Of several parts of the data, that of unseen data comes last.
    const metric = chart.metrics[chart.metrics.length - 1];
    const small = store.reader(smallOf(view));
    const band = othersOf(others.map((row) => small(row.key, metric)), chartColors.text, x);
    const now = {
      ...drawingOf(filled, chart.metrics, given), others: band, scheme: theme, colors: chartColors,
    };
    if (!isSameDrawing(last.current, now)) last.current = now;
    return last.current;
  }, [isSeen, parts, others, view, chart, options, isGrouped, theme, chartColors, arrivals]);

  const missing = useMemo(() => {
    const read = store.reader(view);
    const isMissing = (row, metric) => logs(row, view, metric) && !read(row.key, metric)?.isHere;
    return isSeen && rows.some((row) => asked.some((metric) => isMissing(row, metric)));
  }, [isSeen, rows, view, asked, arrivals]);
  // While the detail of a zoom is loading, the present points are shown enlarged.
  const visible = drawing && missing && shownOnce && !drawing.tally.curves ? shownOnce : drawing;

  useEffect(() => {
    if (!isSeen) return;
    const logged = rows.filter((row) => asked.some((metric) => logs(row, view, metric)));
    store.want(view, asked, logged);
  }, [isSeen, rows, view, asked, arrivals]);

  // The sessions that are drawn come first.
  useEffect(() => {
    if (!isSeen || missing) return;
    const metric = chart.metrics[chart.metrics.length - 1];
    store.want(smallOf(view), [metric], others.filter((row) => logs(row, view, metric)));
  }, [isSeen, missing, others, view, chart, arrivals]);

  const axis = useRef(x);
  axis.current = x;
  useEffect(() => {
    if (!visible) return;
    made.current ??= new Chart(host.current, {
      onZoom: (range) => update({ range: range && narrowed(range, axis.current) }),
      onCursor: (at) => cursor.move(at && placeOf(at, made.current)),
      onPick: (event) => pick(cursor.now.peek(), event.ctrlKey || event.metaKey),
    });
    const stretched = options.range ? { ...visible.extent, x: options.range } : visible.extent;
    made.current?.show({ ...visible, extent: stretched });
    if (visible === drawing && !missing && visible.tally.curves) {
      remember(drawing);
      // The chart draws when this task is done.
      setTimeout(painted, 0, "curves");
    }
  }, [visible, missing]);

  useSignalEffect(() => {
    const { place, lifted } = cursor.now.value;
    if (place?.chart !== made.current) made.current?.follow(place ? place.x : null);
    made.current?.lift(lifted);
  });
  useEffect(() => () => made.current?.destroy(), []);

  const problem = store.problem(view);
  const isPinned = options.charts.includes(chart.title);
  return html`<figure class=${props.isWide ? "chart wide" : "chart"}>
    <figcaption>
      <strong title=${chart.title}>${chart.title}</strong>
      ${chart.metrics.length > 1 && html`<${Key} metrics=${chart.metrics} />`}
      <span class="dim way">${wayOf(chart.metrics)}</span>
      <span class="space"></span>
      ${props.canPin &&
      html`<button
        type="button"
        class=${isPinned ? "quiet star is-on" : "quiet star"}
        aria-pressed=${isPinned}
        aria-label=${`Pin the chart ${chart.title}`}
        title=${isPinned ? "Pinned; click to let go" : "Pin this chart"}
        onClick=${() => update({ charts: toggled(state.peek().charts, chart.title) })}
      >
        <${Icon} name="star" />
      </button>`}
      ${visible && html`<${YRange} title=${chart.title} extent=${visible.extent} />`}
      <${Saving} ...${{ ...props, view, over }} drawing=${visible} />
      <button
        type="button"
        class="quiet"
        aria-pressed=${props.isWide}
        aria-label=${`${chart.title} in full width`}
        title="Full width"
        onClick=${props.onWiden}
      >
        <${Icon} name="wide" />
      </button>
    </figcaption>
    <div
      class="plot"
      ref=${host}
      tabindex="0"
      role="img"
      aria-label=${`${chart.title}, ${parts.length} curves; arrow keys move the cursor, + zooms in, 0 shows all`}
    ></div>
    ${missing && !problem && html`<p class="loading" role="status">Reading curves…</p>`}
    ${problem && html`<p class="trouble" role="status">${problem}</p>`}
    ${visible &&
    html`
      <${Notes} tally=${visible.tally} isLog=${options.log} isGrouped=${isGrouped} />
      <${Values}
        ...${{ kind: over || view.kind, x }}
        drawing=${visible}
        metrics=${chart.metrics}
        chartOf=${() => made.current}
      />
    `}
  </figure>`;
}

function Key({ metrics }) {
  return html`<span class="key">
    ${metrics.map(
      (metric, i) => html`<span>
        <svg class="dash" viewBox="0 0 22 6" aria-hidden="true">
          <line x1="0" x2="22" y1="3" y2="3" class=${`dash-${metrics.length - 1 - i}`} />
        </svg>
        ${metric}
      </span>`,
    )}
  </span>`;
}

function Notes({ tally, isLog, isGrouped }) {
  const notes = [];
  if (tally.down) {
    const { shown, count } = tally.widest;
    const whole = `${shown.toLocaleString("en")} of ${count.toLocaleString("en")} values`;
    const few = `${tally.down} of ${tally.curves} curves down-sampled`;
    const what = tally.curves === 1 ? "down-sampled" : few;
    notes.push(`${what} (${whole}), no spike lost; zoom for detail`);
  }
  if (isLog && tally.below) {
    notes.push(`${tally.below.toLocaleString("en")} values ≤ 0 cannot stand on a log axis`);
  }
  if (tally.odd) {
    const shape = isGrouped ? "left out of the mean" : "shown as × and arrows";
    const isAll = tally.odd === tally.values;
    const what = isAll ? "Every value is" : tally.odd.toLocaleString("en");
    notes.push(`${what} NaN or infinite, ${shape}`);
  }
  if (tally.off) {
    const count = tally.off === 1 ? "1 value runs" : `${tally.off.toLocaleString("en")} values run`;
    notes.push(`${count} off the axis`);
  }
  if (tally.left) notes.push(`${tally.left.toLocaleString("en")} values are no numbers`);
  return notes.length > 0 && html`<p class="notes">${notes.join(" · ")}</p>`;
}

async function pictureOf(drawing, title, kind) {
  const { picture } = await import("casket/curves/picture");
  return picture(drawing, title, kind);
}

function Saving({ chart, rows, view, drawing, over }) {
  const name = chart.title;
  const [problem, setProblem] = useState("");
  const [said, say] = useState("");
  const png = async () => {
    const { png: draw } = await pictureOf(drawing, name, over || view.kind);
    download(`${name}.png`, await draw());
  };
  const svg = async () => {
    const { svg: write } = await pictureOf(drawing, name, over || view.kind);
    download(`${name}.svg`, write(), "image/svg+xml");
  };
  const copy = async () => {
    const { codeOf } = await import("casket/curves/matplotlib");
    const code = codeOf(drawing, name, over || view.kind);
    try {
      await navigator.clipboard.writeText(code);
      setProblem("");
      say("The code is copied.");
    } catch {
      // Browsers refuse the clipboard to pages of other machines.
      download(`${name}.py`, code);
    }
  };
  const raw = async () => {
    try {
      const sessions = rows.map((row) => row.key);
      const question = { ...view, metrics: chart.metrics, sessions };
      download(`${name}.csv`, await source.csvOfCurves(question));
      setProblem("");
    } catch (error) {
      setProblem(error.message);
    }
  };
  return html`<${Menu} isQuiet label=${html`<${Icon} name="down" />`} name=${`Save ${name}`}
    onOpen=${() => say("")}>
    <div class="actions">
      <button type="button" onClick=${png}>PNG picture</button>
      <button type="button" onClick=${svg}>SVG picture</button>
      <button type="button" onClick=${copy}>Copy as matplotlib</button>
      <button type="button" onClick=${raw}>
        ${source.isLive ? "CSV, every value" : "CSV of what this report holds"}
      </button>
      <p class="hint" role="status">${said}</p>
      ${problem && html`<p class="trouble">${problem}</p>`}
    </div>
  <//>`;
}

/** Pins the session or group of the curve under the cursor, or lets it go; or opens its session. */
function pick({ place }, isToOpen) {
  const part = place?.isNear && listing.drawn.peek().parts.find(({ key }) => key === place.order[0]);
  if (!part) return;
  const keys = part.rows.map((row) => row.key);
  const { pinned } = state.peek();
  const isPinned = keys.every((key) => pinned.includes(key));
  const others = pinned.filter((key) => !keys.includes(key));
  if (isToOpen) update({ view: "session", session: keys[0] });
  else update({ pinned: isPinned ? others : [...others, ...keys] });
}

function toggled(list, item) {
  return list.includes(item) ? list.filter((other) => other !== item) : [...list, item];
}

function curvesOf(read, metrics, rows, over) {
  const curveOf = (row, metric) => {
    const curve = read(row.key, metric);
    return over ? overMetric(curve, read(row.key, over)) : curve;
  };
  return Object.fromEntries(
    metrics.map((metric) => [metric, rows.map((row) => curveOf(row, metric))]),
  );
}

function logs(row, { kind }, metric) {
  return Boolean(row.metrics?.[kind]?.includes(metric));
}

function pointsFor(count) {
  return POINTS.find(([most]) => count <= most)?.[1] ?? FEWEST_POINTS;
}

function placeOf({ x, y }, chart) {
  const near = chart.nearest({ x, y });
  const isNear = near[0]?.[1] < NEAR * devicePixelRatio;
  return { x, chart, order: near.map(([key]) => key), isNear };
}

/**
 * Whole numbers make a shorter address; times need few decimals.
 *
 * @returns {[number, number]}
 */
function narrowed([from, to], x) {
  if (x === "metric") return [Number(from.toPrecision(6)), Number(to.toPrecision(6))];
  if (x !== "number") return [Number(from.toFixed(2)), Number(to.toFixed(2))];
  const low = Math.floor(from);
  return [low, Math.max(Math.ceil(to), low + 1)];
}

/** Returns whether an element is near the visible area, or was before. */
function useSeen(ref) {
  const [isSeen, see] = useState(false);
  useEffect(() => {
    const look = (entries) => entries[0].isIntersecting && see(true);
    const watcher = new IntersectionObserver(look, { rootMargin: "200px" });
    watcher.observe(ref.current);
    return () => watcher.disconnect();
  }, []);
  return isSeen;
}
