import { better, factsOf, isNumber, restored } from "casket/model/facts";

/** Returns the flat names of the metrics that sessions logged as numbers, those of most first. */
export function namesOf(rows, kind) {
  const counts = new Map();
  for (const row of rows) {
    for (const name of row.metrics?.[kind] ?? []) counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1]).map(([name]) => name);
}

/** Returns whether a session logged the candidates of a grid search. */
export function hasSearch(row) {
  return row.metrics.result.includes("dev_scores.mean");
}

/** Returns the best value of a metric of a session; of results, which have no epochs, the latest. */
export function scoreOf(row, metric) {
  if (Object.hasOwn(row.best ?? {}, metric)) return row.best[metric];
  return better(metric) && Object.hasOwn(row.last ?? {}, metric) ? row.last[metric] : undefined;
}

/** Returns the column of the scores of a metric: its best values or, without any, the latest. */
export function scoreColumn(rows, metric) {
  const hasBest = rows.some((row) => isNumber(restored(row.best?.[metric])));
  return hasBest ? `best.${metric}` : metric;
}

/** Returns the names of the metrics that have a score. */
export function scoredNames(row) {
  const names = Object.keys(row.last ?? {}).filter((name) => isNumber(scoreOf(row, name)));
  return [...new Set([...Object.keys(row.best ?? {}), ...names])];
}

/**
 * Returns the metrics whose names do not say which way is better, those of most sessions first and
 * params that were logged last.
 */
export function undirectedNames(rows) {
  const counts = new Map();
  for (const row of rows) {
    for (const [name, value] of Object.entries(row.last ?? {})) {
      const isAsked = better(name) === null && factsOf(name).weight > 0 && isNumber(restored(value));
      if (isAsked) counts.set(name, (counts.get(name) ?? 0) + 1);
    }
  }
  const isParam = (name) => rows.some((row) => Object.hasOwn(row.params ?? {}, name));
  const params = new Set([...counts.keys()].filter(isParam));
  const rate = (name) => counts.get(name) - (params.has(name) ? rows.length : 0);
  return [...counts.keys()].sort((a, b) => rate(b) - rate(a) || (a < b ? -1 : 1));
}

/** Returns the metric that best describes the quality of a session, judged by names. */
export function mainMetric(rows) {
  // Metrics of epochs come before results: nothing should be selected by a test score.
  const hasBest = rows.some((row) => Object.keys(row.best ?? {}).length > 0);
  const counts = new Map();
  for (const row of rows) {
    const names = hasBest ? Object.keys(row.best ?? {}) : scoredNames(row);
    for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const most = Math.max(0, ...counts.values());
  const rate = (name) => 2 * factsOf(name).weight + Number(better(name) === "max");
  const common = [...counts.keys()].filter((name) => counts.get(name) >= most / 2);
  return common.sort((a, b) => rate(b) - rate(a) || (a < b ? -1 : 1))[0] ?? "";
}

/** Returns the row whose best value of a metric is the best of all; undefined if none has it. */
export function bestRow(rows, metric) {
  const mode = better(metric);
  let best;
  for (const row of rows) {
    const value = scoreOf(row, metric);
    if (!isNumber(value)) continue;
    if (!best || isBetter(value, scoreOf(best, metric), mode)) best = row;
  }
  return best;
}

/** Returns in words which way metrics are better; empty if it is unknown, or they differ. */
export function wayOf(metrics) {
  const ways = new Set(metrics.map(better));
  return ways.size === 1 ? { min: "lower is better", max: "higher is better" }[[...ways][0]] ?? "" : "";
}

/** Returns whether a value is better than another; mode as returned by `better`. */
export function isBetter(value, other, mode) {
  return mode === "min" ? value < other : value > other;
}

/** Assigns metrics to charts: a metric of several parts of the data has a single chart. */
export function charts(metrics, main) {
  const found = new Map();
  for (const metric of metrics) {
    const { base } = factsOf(metric);
    const paired = metrics.some((other) => other !== metric && factsOf(other).base === base);
    const title = paired ? base : metric;
    if (!found.has(title)) found.set(title, []);
    found.get(title).push(metric);
  }
  const list = [...found].map(([title, names]) => ({ title, metrics: names.sort(byPart) }));
  const rate = ({ metrics: names }) =>
    names.includes(main) ? Infinity : Math.max(...names.map((name) => factsOf(name).weight));
  const rates = new Map(list.map((chart) => [chart, rate(chart)]));
  return list.sort((a, b) => (rates.get(b) ?? 0) - (rates.get(a) ?? 0));
}

/**
 * Assigns charts to sections by what their metrics have before a "/"; those without it are the last.
 */
export function sectionsOf(list) {
  const sections = new Map();
  for (const chart of list) {
    const prefixes = chart.metrics.map((name) => name.slice(0, Math.max(name.indexOf("/"), 0)));
    const title = [...new Set(prefixes)].filter(Boolean).sort().join(", ");
    sections.set(title, [...(sections.get(title) ?? []), chart]);
  }
  const found = [...sections].map(([title, own]) => ({ title, charts: own }));
  return found.sort((a, b) => Number(a.title === "") - Number(b.title === ""));
}

function byPart(a, b) {
  return Number(factsOf(a).held_out) - Number(factsOf(b).held_out) || (a < b ? -1 : 1);
}
