// Statistics of a metric over several sessions.

import { differing, flatten, isNumber, valueOf } from "casket/model/facts";

const NORMAL_QUANTILE = 1.959963984540054;
const MOST_GROUPS = 8;
const FEWEST = 6;
const COMMON = 0.8;

/** Returns `{mean, margin, n}` of a sample: its 95 % interval by Student's t, of scaled sums. */
export function interval(numbers) {
  const n = numbers.length;
  if (!n || !numbers.every(isNumber)) return { mean: n ? sum(numbers) / n : NaN, margin: NaN, n };
  const [least, most] = [numbers.reduce(lower), numbers.reduce(higher)];
  if (least === most) return { mean: least, margin: n > 1 ? 0 : NaN, n };
  // A power of two loses no digits.
  const scale = powerOfTwo(Math.max(most, -least));
  const scaled = numbers.map((value) => value / scale);
  const mean = sum(scaled) / n;
  const deviation = Math.sqrt(sum(scaled.map((value) => (value - mean) ** 2)) / (n - 1));
  const margin = (studentT(n - 1) * deviation) / Math.sqrt(n);
  return { mean: mean * scale, margin: margin * scale, n };
}

function lower(a, b) {
  return a < b ? a : b;
}

function higher(a, b) {
  return a > b ? a : b;
}

/** Returns a power of two that is about as large as a number. */
function powerOfTwo(number) {
  return 2 ** Math.max(Math.min(Math.floor(Math.log2(number)), 1023), -1022);
}

/**
 * Returns how much of a metric's variance over completed sessions each param explains alone, the
 * largest share first.
 *
 * The share is omega squared of a one-way analysis of variance: of all variance between the
 * sessions, the part between those with unlike values of the param, less the part by chance
 * there. Numeric params of many values are cut into groups of equal size. `share` is null, and
 * `problem` is the reason if it cannot be computed; `correlation` is Spearman's, of numeric params.
 */
export function importance(rows, metric) {
  // Running, failed and killed sessions are not representative of their params.
  const scored = rows.filter((row) => row.status === "completed" && isNumber(valueOf(row, metric)));
  const scores = scored.map((row) => valueOf(row, metric));
  const tables = scored.map((row) => flatten(row.params, "params."));
  const names = [...new Set(tables.flatMap(Object.keys))];
  return names
    .map((name) => param(name, tables.map((table) => table[name] ?? null), scores))
    .filter(({ values }) => values > 1)
    .sort((a, b) => (b.share ?? -1) - (a.share ?? -1));
}

/**
 * Returns the params that vary and that most sessions have, the most important for the metric
 * first, then those whose importance is not known.
 */
export function rankedParams(rows, metric) {
  const scored = rows.filter((row) => isNumber(valueOf(row, metric)));
  const isGiven = (name) => (row) => (valueOf(row, name) ?? null) !== null;
  const known = importance(rows, metric).filter(({ share }) => share !== null);
  const varying = differing(scored.map((row) => flatten(row.params, "params.")));
  return [...new Set([...known.map(({ name }) => name), ...varying])].filter(
    (name) => scored.filter(isGiven(name)).length >= scored.length * COMMON,
  );
}

/** Returns ranks from 1, those of equal numbers being their mean. */
export function ranks(numbers) {
  const order = numbers.map((_, i) => i).sort((a, b) => numbers[a] - numbers[b]);
  const found = new Array(numbers.length);
  for (let from = 0; from < order.length; ) {
    let to = from;
    while (to < order.length && numbers[order[to]] === numbers[order[from]]) to += 1;
    for (let i = from; i < to; i += 1) found[order[i]] = (from + to + 1) / 2;
    from = to;
  }
  return found;
}

function param(name, values, scores) {
  const keys = values.map((value) => JSON.stringify(value));
  const distinct = new Set(keys).size;
  const given = values.filter((value) => value !== null);
  const isNumeric = given.length > 0 && given.every(isNumber);
  const groups = isNumeric && distinct > MOST_GROUPS ? quantiles(values) : keys;
  const n = scores.length;
  return {
    name,
    n,
    values: distinct,
    isNumeric,
    correlation: isNumeric ? correlation(values, scores) : null,
    ...shareOf(groups, scores),
  };
}

function shareOf(groups, scores) {
  const n = scores.length;
  const members = scoresByGroup(groups, scores);
  const k = members.size;
  if (n < FEWEST) return { share: null, problem: `fewer than ${FEWEST} sessions` };
  if (k > n / 2) return { share: null, problem: "nearly every session has its own value" };
  const mean = sum(scores) / n;
  const total = sum(scores.map((score) => (score - mean) ** 2));
  if (total === 0) return { share: 0, problem: null };
  const within = sum(
    [...members.values()].map((own) => {
      const ownMean = sum(own) / own.length;
      return sum(own.map((score) => (score - ownMean) ** 2));
    }),
  );
  const error = within / (n - k);
  const share = (total - within - (k - 1) * error) / (total + error);
  return { share: Math.max(share, 0), problem: null };
}

function scoresByGroup(groups, scores) {
  const members = new Map(groups.map((group) => [group, []]));
  groups.forEach((group, i) => members.get(group).push(scores[i]));
  return members;
}

/** Divides numbers into groups of about equal size; equal numbers share a group. */
function quantiles(values) {
  const indexes = [...values.keys()].filter((i) => isNumber(values[i]));
  const count = Math.max(2, Math.min(MOST_GROUPS, Math.floor(indexes.length / 5)));
  const ranked = ranks(indexes.map((i) => values[i]));
  const groups = values.map(() => "");
  indexes.forEach((index, i) => {
    groups[index] = Math.min(Math.floor(((ranked[i] - 0.5) / indexes.length) * count), count - 1);
  });
  return groups;
}

function correlation(values, scores) {
  const indexes = [...values.keys()].filter((i) => isNumber(values[i]));
  const a = ranks(indexes.map((i) => values[i]));
  const b = ranks(indexes.map((i) => scores[i]));
  const middle = (indexes.length + 1) / 2;
  const covariance = sum(a.map((rank, i) => (rank - middle) * (b[i] - middle)));
  const spread = (found) => sum(found.map((rank) => (rank - middle) ** 2));
  const product = Math.sqrt(spread(a) * spread(b));
  return product > 0 ? covariance / product : 0;
}

/** Adds up with the rounding errors carried along (Neumaier), as Python's fsum nearly does. */
function sum(numbers) {
  let total = 0;
  let lost = 0;
  for (const number of numbers) {
    const next = total + number;
    lost += Math.abs(total) >= Math.abs(number) ? total - next + number : number - next + total;
    total = next;
  }
  return Number.isFinite(lost) ? total + lost : total;
}

/** The 97.5 % quantile of Student's t: see `casket/statistics/intervals.py`. */
function studentT(freedom) {
  if (freedom === 1) return Math.tan(Math.PI * 0.475);
  if (freedom === 2) return 0.95 * Math.sqrt(2 / (1 - 0.95 ** 2));
  const x = NORMAL_QUANTILE;
  const terms = [
    x,
    (x ** 3 + x) / 4,
    (5 * x ** 5 + 16 * x ** 3 + 3 * x) / 96,
    (3 * x ** 7 + 19 * x ** 5 + 17 * x ** 3 - 15 * x) / 384,
    (79 * x ** 9 + 776 * x ** 7 + 1482 * x ** 5 - 1920 * x ** 3 - 945 * x) / 92160,
  ];
  return sum(terms.map((term, i) => term / freedom ** i));
}
