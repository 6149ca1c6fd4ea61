// The table's rows: in order, in groups, and which of them are drawn.

import { better, factsOf, flatten, isNumber, restored, shown, valueOf } from "casket/model/facts";
import { bestRow, namesOf, scoreOf } from "casket/model/metrics";
import { interval } from "casket/model/statistics";

/** @typedef {import("casket/types").Group} Group */
/** @typedef {import("casket/types").Row} Row */

const MOST_METRICS = 5;
const MOST_SETTINGS = 6;
/** The column of a session's values of the params in which sessions differ. */
export const SETTINGS = "settings";
const collator = new Intl.Collator("en", { numeric: true });

/**
 * Returns rows in the order of a name, "-" before it reverses it; else running sessions, then the
 * best by the goal, then those without a value of it, the newest first.
 *
 * @param {Row[]} rows
 * @param {string} sort
 * @param {string} [goal]
 * @returns {Row[]}
 */
export function inOrder(rows, sort, goal = "") {
  if (!sort) return byStanding(rows, goal);
  const name = sort.replace(/^-/, "");
  const sign = sort.startsWith("-") ? -1 : 1;
  return sorted(rows, (row) => valueOf(row, name), sign);
}

/**
 * Returns groups of rows with equal values under names.
 *
 * @param {Row[]} rows
 * @param {string[]} names
 * @returns {Group[]}
 */
export function groupsOf(rows, names) {
  const groups = new Map();
  for (const row of rows) {
    const values = names.map((name) => valueOf(row, name) ?? null);
    const key = keyOfValues(values);
    if (!groups.has(key)) groups.set(key, { key, names, values, rows: [] });
    groups.get(key).rows.push(row);
  }
  return [...groups.values()];
}

/** Returns the key of the group of some values; NaN and infinities are words in JSON. */
export function keyOfValues(values) {
  const isWord = (value) => typeof value === "number" && !isNumber(value);
  return JSON.stringify(values.map((value) => (isWord(value) ? String(value) : value)));
}

/**
 * Returns groups in the order of a name, else as `casket ls` does: the oldest first.
 *
 * @param {Group[]} groups
 * @param {string} sort
 * @returns {Group[]}
 */
export function groupsInOrder(groups, sort) {
  if (!sort) {
    const oldest = (rows) => rows.reduce((a, b) => (byStart(b, a) < 0 ? b : a));
    const aged = groups.map((group) => [oldest(group.rows), group]);
    return aged.sort(([a], [b]) => byStart(a, b)).map(([, group]) => group);
  }
  const name = sort.replace(/^-/, "");
  return sorted(groups, (group) => ofGroup(group, name), sort.startsWith("-") ? -1 : 1);
}

/**
 * Returns a group's value of a name: the value it shares, or the interval of numbers.
 *
 * @param {Group} group
 * @param {string} name
 */
export function cellOfGroup(group, name) {
  const at = group.names.indexOf(name);
  if (at >= 0) return group.values[at];
  const numbers = group.rows.map((row) => valueOf(row, name)).filter(isNumber);
  if (numbers.length && isMetric(name)) return interval(numbers);
  const [first, ...rest] = new Set(group.rows.map((row) => JSON.stringify(valueOf(row, name))));
  return rest.length || first === undefined ? undefined : valueOf(group.rows[0], name);
}

/** Returns the most informative columns of some rows, or of groups of them by some names. */
export function usualColumns(rows, { goal, varying, group }) {
  const differ = (name) => new Set(rows.map((row) => row[name])).size > 1;
  const params = varying.filter((name) => name.startsWith("params."));
  const names = namesOf(rows, "epoch").concat(namesOf(rows, "result"), namesOf(rows, "batch"));
  const known = new Set(rows.flatMap((row) => Object.keys(row.last)));
  const others = [...known].filter((name) => rows.some((row) => isNumber(restored(row.last[name]))));
  // Metrics of a search's candidates are not among the session's own values.
  const metrics = [...new Set([...names, ...others])].filter(
    (name) => name !== goal && known.has(name),
  );
  metrics.sort((a, b) => Number(better(b) !== null) - Number(better(a) !== null));
  const columnOf = columnsByEpochs(rows, goal);
  const scores = [...(goal ? [goal] : []), ...metrics.slice(0, MOST_METRICS)].map(columnOf);
  if (group.length) return [...group, ...scores];
  return [
    ...(params.length ? [SETTINGS] : []),
    "status",
    ...["file", "experiment", "model"].filter(differ),
    ...scores,
    ...(rows.some((row) => row.epochs > 0) ? ["epochs"] : []),
    "duration",
    "started",
    ...(rows.some((row) => row.group) ? ["group"] : []),
    ...(rows.some((row) => row.tags.length) ? ["tags"] : []),
    ...(rows.some((row) => row.note) ? ["note"] : []),
    ...(rows.some((row) => row.error) ? ["error"] : []),
  ];
}

/**
 * Returns a function from metrics to their columns: of the goal and of others that are measured on
 * held-out data the best epoch counts, of the rest and of results the latest value.
 */
function columnsByEpochs(rows, goal) {
  const epochs = new Set(namesOf(rows, "epoch"));
  const scored = new Set(rows.flatMap((row) => Object.keys(row.best ?? {})));
  const isJudged = (name) =>
    epochs.has(name) && scored.has(name) && (name === goal || factsOf(name).held_out);
  return (name) => (isJudged(name) ? `best.${name}` : `last.${name}`);
}

/**
 * Returns every name that can be a column.
 *
 * @param {Row[]} rows
 * @returns {string[]}
 */
export function possibleColumns(rows) {
  const own = [SETTINGS, "status", "experiment", "model", "file", "epochs", "started", "ended", "duration"];
  const labels = ["age", "name", "group", "tags", "note", "error", "id", "parent"];
  const names = new Set([...own, ...labels]);
  for (const group of ["params", "last", "best", "config", "meta"]) {
    for (const row of rows) {
      for (const name of Object.keys(flatten(row[group], `${group}.`))) names.add(name);
    }
  }
  return [...names];
}

/** Returns whether a column holds a metric. */
export function isMetric(name) {
  return name.startsWith("last.") || name.startsWith("best.");
}

/** Returns the words of a column's head. */
export function headOf(name) {
  if (name === SETTINGS) return "what differs";
  if (name.startsWith("best.")) return `${name.slice(5)}, best`;
  return name.replace(/^(params|last|config|meta)\./, "");
}

/** Returns, by column, the best value among rows, for metrics of a known direction. */
export function bestValues(rows, columns) {
  const found = new Map();
  for (const name of columns.filter(isMetric)) {
    const mode = better(name.slice(5));
    const numbers = mode ? rows.map((row) => valueOf(row, name)).filter(isNumber) : [];
    if (new Set(numbers).size < 2) continue; // of equals, none is best
    found.set(name, numbers.reduce((a, b) => ((mode === "min" ? b < a : b > a) ? b : a)));
  }
  return found;
}

/** Returns the rows that are drawn where nothing is in groups, the best by the goal among them. */
export function drawnRows(ordered, allRows, state, goal) {
  return chosen(ordered, allRows, state, goal, (rows) => rows);
}

/** Returns the groups that are drawn, without the rows that are hidden. */
export function drawnGroups(ordered, allRows, state, goal) {
  const inGroups = (rows) => groupsInOrder(groupsOf(rows, state.group), state.sort);
  return chosen(ordered, allRows, state, goal, inGroups);
}

/** Returns parts, equal ones as the objects that they were before; all of them as their list. */
export function keptParts(parts, before) {
  const known = new Map(before.map((part) => [part.key, part]));
  const kept = parts.map((part) => (isSamePart(known.get(part.key), part) ? known.get(part.key) : part));
  return sameItems(kept, before) ? before : kept;
}

function isSamePart(part, other) {
  if (!part) return false;
  const { rows, ...words } = part;
  return sameItems(rows, other.rows) && Object.keys(words).every((name) => part[name] === other[name]);
}

/** Returns whether two lists have the same items in the same order. */
export function sameItems(list, other) {
  return list.length === other.length && list.every((item, i) => item === other[i]);
}

function chosen(ordered, allRows, state, goal, parts) {
  const hidden = new Set(state.hidden);
  const byKey = new Map(allRows.map((row) => [row.key, row]));
  const named = (keys) => keys.map((key) => byKey.get(key)).filter(Boolean);
  const isOpen = (row) =>
    !hidden.has(row.key) && (!state.unfinished || row.status === "running");
  const selected = named(state.selected);
  const pool = selected.length ? selected : ordered;
  const rows = [...new Set([...named(state.pinned), ...pool])].filter(isOpen);
  const most = selected.length || state.show === "all" ? Infinity : Number(state.show);
  const fixed = state.group.length ? 0 : state.pinned.length;
  return withBest(parts(rows), bestRow(rows, goal), most, fixed);
}

/** Returns the first parts; the part with the best row replaces the last of them. */
function withBest(parts, best, most, fixed) {
  const isBest = (part) => part === best || part.rows?.includes(best);
  const first = parts.slice(0, Math.max(most, fixed));
  if (!best || first.some(isBest)) return first;
  return [...first.slice(0, Math.max(most - 1, fixed)), parts.find(isBest)];
}

/** Compares by when sessions began, the oldest first. */
export function byStart(a, b) {
  if (a.started !== b.started) return a.started < b.started ? -1 : 1;
  return a.key < b.key ? -1 : 1;
}

/** Returns the params in which sessions differ, as words: `lr=0.01 seed=3`. */
export function settings(row, varying) {
  return given(row, varying)
    .map(([name, value]) => `${name}=${shown(value)}`)
    .join(" ");
}

/** Returns the same without the names where they would take too much room: `0.01 · 3`. */
export function values(row, varying) {
  const pairs = given(row, varying);
  if (pairs.length < 3) return settings(row, varying);
  return pairs.map(([, value]) => shown(value)).join(" · ");
}

function given(row, varying) {
  return varying
    .filter((name) => name.startsWith("params."))
    .map((name) => [headOf(name), valueOf(row, name)])
    .filter(([, value]) => value !== undefined && value !== null)
    .slice(0, MOST_SETTINGS);
}

function byStanding(rows, goal) {
  const sign = better(goal) === "min" ? 1 : -1;
  const rank = (row) => {
    if (row.status === "running") return -Infinity;
    const score = scoreOf(row, goal);
    return isNumber(score) ? sign * score : Infinity;
  };
  const rated = rows.map((row) => ({ row, at: rank(row) }));
  const isRated = Number.isFinite;
  const byAge = (a, b) => (isRated(a.at) ? byStart(a.row, b.row) : byStart(b.row, a.row));
  rated.sort((a, b) => (a.at === b.at ? byAge(a, b) : a.at - b.at));
  return rated.map(({ row }) => row);
}

function sorted(items, valueOfItem, sign) {
  const rated = items.map((item) => [valueOfItem(item), item]);
  return rated.sort(([a], [b]) => compared(a, b, sign)).map(([, item]) => item);
}

/** Missing values come last in both directions. */
function compared(a, b, sign) {
  const rank = (value) => {
    if (value === undefined || value === null || Number.isNaN(value)) return 2;
    return typeof value === "number" ? 0 : 1;
  };
  if (rank(a) !== rank(b) || rank(a) === 2) return rank(a) - rank(b);
  if (typeof a === "number") return sign * (a - b);
  return sign * collator.compare(textOf(a), textOf(b));
}

function textOf(value) {
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function ofGroup(group, name) {
  const value = cellOfGroup(group, name);
  return value?.mean ?? value;
}
