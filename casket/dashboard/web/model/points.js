// The points that a chart draws of rows, and the reasons why rows are left out.

import { isNumber, shown, valueOf } from "casket/model/facts";

const MOST_CATEGORIES = 40;
const WIDE = 50;

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
