// The settings of a sweep: sessions that differ in nothing but their seed, and which is best.

import { better, isNumber, valueOf } from "casket/model/facts";
import { scoreOf } from "casket/model/metrics";
import { interval } from "casket/model/statistics";

const SEED = /(^|[._-])(seed|random_state|rng)$/i;

/** Returns the params in which sessions differ: those that make a setting, and the seed's. */
export function settingNames(varying) {
  const params = varying.filter((name) => name.startsWith("params."));
  return {
    names: params.filter((name) => !SEED.test(name)),
    seeds: params.filter((name) => SEED.test(name)),
  };
}

/**
 * Returns settings as `{key, rows, values, mean, margin, n}`, the best mean of a metric first.
 *
 * `values` are the best values of the metric by seed; a session that failed is in none.
 */
export function settingsOf(rows, metric, varying) {
  const { names, seeds } = settingNames(varying);
  const settings = new Map();
  for (const row of rows) {
    const value = scoreOf(row, metric);
    if (!isNumber(value) || row.status === "failed" || row.status === "killed") continue;
    const key = JSON.stringify(names.map((name) => valueOf(row, name) ?? null));
    if (!settings.has(key)) settings.set(key, { key, rows: [], values: new Map() });
    const setting = settings.get(key);
    const seed = JSON.stringify(seeds.map((name) => valueOf(row, name) ?? null));
    setting.rows.push(row);
    setting.values.set(seeds.length ? seed : row.key, value);
  }
  const sign = better(metric) === "min" ? 1 : -1;
  const list = [...settings.values()].map((each) => ({ ...each, ...interval([...each.values.values()]) }));
  return list.sort((a, b) => sign * (a.mean - b.mean));
}

/**
 * Returns whether a setting is significantly better than another, over common seeds.
 *
 * `{n, mean, margin, isSettled}` of the differences; not corrected for many comparisons.
 */
export function difference(one, other) {
  const shared = [...one.values.keys()].filter((seed) => other.values.has(seed));
  const differences = shared.map((seed) => one.values.get(seed) - other.values.get(seed));
  const { mean, margin, n } = interval(differences);
  return { mean, margin, n, isSettled: n > 1 && Math.abs(mean) > margin };
}
