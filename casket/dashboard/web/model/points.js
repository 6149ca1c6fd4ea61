// The points that a chart draws of rows, and the reasons why rows are left out.

import { digitsApart, isNumber, shown, shownNumber, valueOf } from "casket/model/facts";

const MOST_CATEGORIES = 40;
const WIDE = 50;
const EDGE = 0.04;
const LEAST_EDGE = 0.01;
const MOST_TICKS = 10;
const MOST_MULTIPLES = 40;

/** Returns `{isNumeric, isWhole, isLog, categories}` of a name: how an axis can show its values. */
export function scaleOf(rows, name, wantsLog) {
  const values = rows.map((row) => valueOf(row, name)).filter((value) => !isMissing(value));
  const isNumeric = values.every((value) => typeof value === "number");
  if (isNumeric) {
    const isWhole = values.every(Number.isInteger);
    return { name, isNumeric, isWhole, isLog: wantsLog ?? isWide(values), categories: [] };
  }
  const counts = new Map();
  for (const value of values) {
    const text = shown(value, name);
    counts.set(text, (counts.get(text) ?? 0) + 1);
  }
  const common = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a));
  const categories = common.slice(0, MOST_CATEGORIES).sort(byText);
  return { name, isNumeric, isLog: false, categories };
}

/** Returns where on an axis a row lies, or `{problem}` in words. */
export function placeOf(row, { name, isNumeric, isLog, categories }) {
  const value = valueOf(row, name);
  if (isMissing(value)) return { problem: `without ${name}` };
  if (!isNumeric) {
    const at = categories.indexOf(shown(value, name));
    return at < 0 ? { problem: `with a rarer ${name}` } : { at };
  }
  if (Number.isNaN(value)) return { problem: `with ${name} NaN` };
  if (!isNumber(value)) return { problem: `with ${name} infinite` };
  if (isLog && value <= 0) return { problem: `with ${name} ≤ 0, not on a log axis` };
  return { at: value };
}

/** Returns from where to where a log axis reaches: a little beyond the positive numbers on it. */
export function logRange(numbers) {
  const places = numbers.map(Math.log10);
  const low = places.reduce((a, b) => Math.min(a, b), Infinity);
  const high = places.reduce((a, b) => Math.max(a, b), -Infinity);
  if (low > high) return [0.1, 1];
  const edge = Math.max((high - low) * EDGE, LEAST_EDGE);
  return [10 ** (low - edge), 10 ** (high + edge)];
}

/** Returns the round numbers that mark a log axis. */
export function logTicks([low, high]) {
  const first = Math.floor(Math.log10(low));
  const decades = Math.ceil(Math.log10(high)) - first;
  const step = Math.max(1, Math.ceil(decades / MOST_TICKS));
  const heads = decades <= 3 ? [1, 2, 5] : [1];
  const found = Array.from({ length: decades + 1 }, (_, i) => first + i)
    .filter((power) => power % step === 0)
    .flatMap((power) => heads.map((head) => Number(`${head}e${power}`)))
    .filter((value) => value >= low && value <= high);
  return found.length > 2 ? found : evenTicks(low, high);
}

/** Returns about so many round numbers that mark an axis, however large or small they are. */
export function ticks([low, high], count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10);
  return multiples(step, low, high);
}

function multiples(step, low, high) {
  const first = Math.ceil(low / step);
  const length = Math.min(Math.max(Math.floor(high / step) - first + 1, 0), MOST_MULTIPLES);
  return Array.from({ length }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** Returns the texts of marks, with enough digits to distinguish them. */
export function labels(values) {
  const digits = digitsApart(values);
  return values.map((value) => (isNumber(value) ? shownNumber(value, digits) : ""));
}

function evenTicks(low, high) {
  const power = 10 ** Math.floor(Math.log10((high - low) / 2));
  const step = power * ([5, 2].find((head) => (high - low) / (head * power) >= 2) ?? 1);
  return multiples(step, low, high);
}

/** Positions rows on several axes; counts the rows left out, by the missing value. */
export function placed(rows, scales) {
  const points = [];
  const leftOut = new Map();
  for (const row of rows) {
    const places = scales.map((scale) => placeOf(row, scale));
    const problem = places.find((place) => place.problem)?.problem;
    if (problem) leftOut.set(problem, (leftOut.get(problem) ?? 0) + 1);
    else points.push({ row, at: places.map((place) => place.at) });
  }
  return { points, leftOut };
}

/** Describes how many sessions are shown, how many are left out, and why. */
export function account(shownCount, leftOut) {
  const why = [...leftOut].map(([problem, count]) => `${count} ${problem}`);
  const all = [...leftOut.values()].reduce((sum, count) => sum + count, shownCount);
  const sessions = `${shownCount} of ${all} session${all === 1 ? "" : "s"} shown`;
  return why.length ? `${sessions}; left out: ${why.join(", ")}.` : `${sessions}.`;
}

function isMissing(value) {
  return value === undefined || value === null || value === "";
}

function isWide(values) {
  if (values.some((value) => value <= 0)) return false;
  const numbers = values.filter(isNumber).sort((a, b) => a - b);
  const [least, middle, most] = [numbers[0], numbers[numbers.length >> 1], numbers.at(-1)];
  if (!(most / least >= WIDE)) return false;
  // Values sampled uniformly from a range have their median in its middle.
  const place = (middle - least) / (most - least);
  const logPlace = Math.log(middle / least) / Math.log(most / least);
  return Math.abs(logPlace - 0.5) < Math.abs(place - 0.5);
}

function byText(a, b) {
  return a.localeCompare(b, undefined, { numeric: true });
}
