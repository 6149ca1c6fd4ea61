import { useCallback, useMemo } from "preact/hooks";

import { improvements } from "casket/explore/best_so_far";
import { EChart, axis, tooltip } from "casket/explore/echart";
import { axisOf } from "casket/explore/scatter";
import { headOf } from "casket/model/arrange";
import { better, shown, valueOf } from "casket/model/facts";
import { placed, scaleOf } from "casket/model/points";
import { update } from "casket/model/view";
import { html } from "casket/shell/html";

const HEIGHT = 232;

/** The score of each trial in the order they began, and the best until then. */
export function Progress({ trials, size, goal, column }) {
  const points = useMemo(() => {
    const scale = scaleOf(trials, column);
    const numbers = new Map(trials.map((row, i) => [row.key, i + 1]));
    const found = placed(trials, [scale]).points;
    return found.map((point) => ({ ...point, number: numbers.get(point.row.key) }));
  }, [trials, column]);
  const done = points.filter(({ row }) => row.status === "completed");
  const records = improvements(done, better(goal));
  const option = useCallback(
    (palette) => progressOption(points, records, size ?? trials.length, column, palette),
    [points, size, column],
  );
  return html`<section class="chart-card" aria-labelledby="progress-title">
    <h2 id="progress-title">
      Best so far <small>each point one trial, outlined: running; the line is the best until then</small>
    </h2>
    <${EChart} option=${option} on=${{ click: open }} height=${HEIGHT}
      label=${`${goal} of each trial; the best trials are listed below`} />
  </section>`;
}

/** The score against a param, over completed trials. */
export function ParamChart({ rows, name, goal, column, best }) {
  const [across, up] = useMemo(() => [name, column].map((each) => scaleOf(rows, each)), [rows, name, column]);
  const { points } = useMemo(() => placed(rows, [across, up]), [rows, across, up]);
  const option = useCallback(
    (palette) => paramOption(points, across, up, best, palette),
    [points, across, up, best?.key],
  );
  const head = headOf(name);
  return html`<section class="chart-card" aria-label=${`${goal} against ${head}`}>
    <h2>${head} <small>${goal} against it${across.isLog ? ", log" : ""}</small></h2>
    <${EChart} option=${option} on=${{ click: open }} height=${HEIGHT}
      label=${`Scatter of ${goal} against ${head}; Explore has the same as a table`} />
  </section>`;
}

function open({ data }) {
  if (data?.key) update({ view: "session", session: data.key });
}

function progressOption(points, records, most, column, palette) {
  const scale = scaleOf(points.map(({ row }) => row), column);
  const dot = ({ number, at, row }) => ({ value: [number, at[0]], key: row.key });
  const running = ({ row }) => row.status === "running";
  const line = records.map(dot);
  const end = points.at(-1)?.number ?? 1;
  if (line.length) line.push({ ...line[line.length - 1], value: [end, line[line.length - 1].value[1]] });
  const byKey = new Map(points.map((point) => [point.row.key, point.row]));
  const said = ({ data }) =>
    `${byKey.get(data.key).name}, trial ${data.value[0]}\n${shown(data.value[1])}`;
  return {
    grid: { left: 64, right: 16, top: 16, bottom: 48 },
    tooltip: tooltip(palette, said),
    xAxis: axis(palette, "trial, in the order they began", {
      type: "value", min: 1, max: Math.max(most, 2), minInterval: 1, splitLine: { show: false },
    }),
    yAxis: { ...axisOf(scale, points.map(({ at }) => at[0]), palette), name: "" },
    series: [
      { type: "scatter", symbolSize: 7, itemStyle: { color: palette.muted, opacity: 0.7 },
        data: points.filter((point) => !running(point)).map(dot) },
      { type: "scatter", symbolSize: 8,
        itemStyle: { color: palette.surface, borderColor: palette.accent, borderWidth: 2 },
        data: points.filter(running).map(dot) },
      { type: "line", data: line, step: "end", symbolSize: 8, lineStyle: { width: 2 },
        itemStyle: { color: palette.accent } },
    ],
  };
}

function paramOption(points, x, y, best, palette) {
  const said = ({ data }) => data.text;
  return {
    grid: { left: 56, right: 16, top: 16, bottom: 40 },
    tooltip: tooltip(palette, said),
    xAxis: { ...axisOf(x, points.map(({ at }) => at[0]), palette), name: "" },
    yAxis: { ...axisOf(y, points.map(({ at }) => at[1]), palette), name: "" },
    series: [{
      type: "scatter",
      data: points.map(({ row, at }) => ({
        value: at,
        key: row.key,
        text: `${row.name}\n${headOf(x.name)} ${shown(valueOf(row, x.name))}: ${shown(at[1])}`,
        symbolSize: row === best ? 14 : 7,
        itemStyle: { color: row === best ? palette.accent : palette.muted },
      })),
    }],
  };
}
