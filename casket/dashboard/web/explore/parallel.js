import { EChart, categoryAxis, clipped } from "casket/explore/echart";
import { isNumber, metricsOf, own, quoted, shownNumber, valueOf, written } from "casket/model/facts";
import { html } from "casket/shell/html";
import { account, placed, scaleOf } from "casket/model/points";
import { compile } from "casket/where/where";
import { useCallback, useMemo, useRef } from "preact/hooks";
import { state, update } from "casket/model/view";
import { scheme } from "casket/shell/paint";

const MOST_LINES = 2000;
const DIGITS = 4;

/**
 * A line for each session through an axis for each fact; brushed ranges become a filter.
 *
 * `brushed` holds the ranges by name: `[low, high]`, or a list of texts; `base` is the filter
 * before brushing.
 */
export function Parallel({ allRows, names, metric, mode, brushed, base, children }) {
  const rows = useMemo(() => fitting(allRows, base), [allRows, base]);
  const scales = useMemo(() => names.map((name) => scaleOf(rows, name)), [rows, names.join("\n")]);
  const { points, leftOut } = useMemo(() => placed(rows, scales), [rows, scales]);
  const option = useCallback(
    (palette) => optionOf(points.slice(0, MOST_LINES), scales, { metric, mode }, palette),
    [points, scales, metric, mode],
  );
  const isOwn = useRef(false);

  const brush = (found) => {
    const explore = { ...state.peek().explore, brushed: found, base: base || undefined };
    if (!Object.keys(found).length) Object.assign(explore, { brushed: undefined, base: undefined });
    update({ where: joined(base, conditions(found, rows)), explore });
  };
  const take = ({ parallelAxisId, intervals }) => {
    if (isOwn.current) return;
    const scale = scales[Number(parallelAxisId)];
    const others = Object.entries(brushed).filter(([name]) => name !== scale.name);
    const range = intervals.length ? rangeOf(intervals[0], scale) : null;
    const next = Object.fromEntries(range ? [...others, [scale.name, range]] : others);
    if (JSON.stringify(next) !== JSON.stringify(brushed)) brush(next);
  };
  const restore = (chart) => {
    isOwn.current = true;
    scales.forEach((scale, i) => {
      const range = own(brushed, scale.name);
      if (!range) return;
      const intervals = [intervalOf(range, scale)];
      chart.dispatchAction({ type: "axisAreaSelect", parallelAxisId: String(i), intervals });
    });
    isOwn.current = false;
  };

  const isBrushed = Object.keys(brushed).length > 0;
  return html`<section class="chart-card" aria-labelledby="parallel-title">
    <h2 id="parallel-title">Params and ${metric}, session by session</h2>
    <div class="scroll" tabindex="0" role="region" aria-label="Parallel coordinates">
      <div class="parallel" style=${{ minWidth: `${names.length * 90}px` }}>
        <${EChart} option=${option} on=${{ axisareaselected: take }} onReady=${restore}
          height=${320}
          label=${`Parallel coordinates of ${names.join(", ")}; the table of sessions has the same`}
        />
      </div>
    </div>
    <p class="muted">
      Draw along an axis to keep only the sessions that pass there: it filters the table, too.
      ${" "}${scheme.value === "dark" ? "Bright" : "Dark"} lines: better ${metric}.
      ${" "}${account(points.length, leftOut)}
      ${points.length > MOST_LINES && ` Only the first ${MOST_LINES} are drawn.`}
    </p>
    ${children}
    ${isBrushed &&
    html`<p>
      Kept: <code>${conditions(brushed, rows).join(" and ")}</code>${" "}
      <button type="button" onClick=${() => brush({})}>Keep all again</button>
    </p>`}
  </section>`;
}

/** Returns the filter as it was before brushing, and the brushed ranges, if both still apply. */
export function brushOf(state, allRows) {
  const { brushed, base = "" } = state.explore;
  const isSame = brushed && state.where === joined(base, conditions(brushed, allRows));
  return isSame ? { brushed, base } : { brushed: {}, base: state.where };
}

function joined(base, parts) {
  if (!base.trim()) return parts.join(" and ");
  return parts.length ? [/\bor\b/.test(base) ? `(${base})` : base, ...parts].join(" and ") : base;
}

function conditions(brushed, rows) {
  return Object.entries(brushed).map(([name, range]) => {
    const own = written(name, rows);
    if (range.every(isNumber)) return `${range[0]} <= ${own} <= ${range[1]}`;
    return `${own} in [${range.map(text).join(", ")}]`;
  });
}

function text(value) {
  return typeof value === "string" ? quoted(value) : JSON.stringify(value);
}

/** Returns the rows that meet a condition; all of them if it is not valid. */
export function fitting(rows, where) {
  if (!where.trim()) return rows;
  try {
    return rows.filter(compile(where, metricsOf(rows)));
  } catch {
    return rows;
  }
}

function rangeOf([low, high], scale) {
  if (scale.isNumeric) {
    const [from, to] = scale.isLog ? [10 ** low, 10 ** high] : [low, high];
    const places = Math.max(0, 3 - Math.floor(Math.log10(Math.max(Math.abs(to - from), 1e-300))));
    return [rounded(from, places, Math.floor), rounded(to, places, Math.ceil)];
  }
  const found = scale.categories.filter((_, i) => i >= low - 0.5 && i <= high + 0.5);
  return found.length ? found : null;
}

/** Rounds outwards, so that a session on the edge stays inside. */
function rounded(number, places, round) {
  if (places > 15) return number;
  return Number((round(number * 10 ** places) / 10 ** places).toFixed(places));
}

function intervalOf(range, scale) {
  if (!scale.isNumeric) {
    const places = range.map((value) => scale.categories.indexOf(value)).filter((at) => at >= 0);
    return [Math.min(...places) - 0.4, Math.max(...places) + 0.4];
  }
  return scale.isLog ? range.map((value) => Math.log10(Math.max(value, 1e-300))) : range;
}

function optionOf(points, scales, { metric, mode }, palette) {
  const values = points.map(({ row }) => valueOf(row, metric)).filter(isNumber);
  const scoreAt = scales.findIndex(({ name }) => name === metric);
  return {
    parallel: { left: 24, right: 120, top: 56, bottom: 24 },
    parallelAxis: scales.map((scale, i) => parallelAxis(scale, i, palette)),
    ...(values.length && scoreAt >= 0
      ? { visualMap: visualMapOf(values, scoreAt, scales[scoreAt], mode, palette) }
      : {}),
    series: [
      {
        type: "parallel",
        smooth: 0.15,
        lineStyle: { width: 1.5, opacity: points.length > 200 ? 0.3 : 0.6, color: palette.accent },
        inactiveOpacity: 0.04,
        activeOpacity: 0.9,
        data: points.map(({ at }) => at.map((v, i) => (scales[i].isLog ? Math.log10(v) : v))),
      },
    ],
  };
}

function visualMapOf(values, dimension, { isLog }, mode, palette) {
  const bounds = [Math.min(...values), Math.max(...values)];
  const [min, max] = isLog ? bounds.map(Math.log10) : bounds;
  const color = mode === "min" ? [...palette.scale].reverse() : palette.scale;
  const text = [bounds[1], bounds[0]].map((bound) => shownNumber(bound, DIGITS));
  return {
    type: "continuous", dimension, min, max, text, right: 0, top: 56, itemWidth: 12,
    textStyle: { color: palette.text }, inRange: { color },
  };
}

function parallelAxis({ name, isNumeric, isWhole, isLog, categories }, i, palette) {
  const { label, ...settings } = isNumeric
    ? { type: "value", label: isLog ? powerText : (value) => String(value) }
    : categoryAxis(categories, 12);
  return {
    dim: i,
    id: String(i),
    name: `${clipped(name.replace(/^params\./, ""), 16)}${isLog ? " (log)" : ""}`,
    ...settings,
    scale: true,
    realtime: false,
    minInterval: isWhole && !isLog ? 1 : 0,
    z: 10,
    nameTextStyle: { color: palette.text },
    nameRotate: 20,
    axisLabel: {
      color: palette.text,
      formatter: label,
      hideOverlap: true,
      textBorderColor: palette.surface,
      textBorderWidth: 4,
    },
    axisLine: { lineStyle: { color: palette.muted, width: 1.5 } },
    areaSelectStyle: { width: 18, color: palette.accent, borderColor: palette.accent },
  };
}

function powerText(value) {
  return String(Number((10 ** value).toPrecision(2)));
}
