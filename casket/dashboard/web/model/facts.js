// The facts of a session, by their names in the `where` language and `casket ls`.

import { signal } from "@preact/signals";

const GROUPS = ["params", "config", "meta", "last", "best"];
const WORDS = { NaN, Infinity, "-Infinity": -Infinity };
const OWN_NUMBERS = ["epochs", "duration"];
const KEYWORDS = new Set(
  "False false None null True true and in is not or AND OR NOT".split(" "),
);
const META_AT_TIMES = new Set(
  ["capture", "clash", "data", "exit_code", "job", "pruned", "repeat", "rerun_of", "starts", "sweep"],
);

const LEVEL = /^(last|best)\./;
const metricFacts = new Map();
const UNKNOWN_METRIC = { better: null, held_out: false, weight: 1 };
const [LEAST_DIGITS, MOST_DIGITS, MARGIN_DIGITS, MOST_PLACES] = [4, 7, 2, 12];
const [SMALLEST, LARGEST] = [1e-4, 1e16];

const finders = new Map();
const MOST_FINDERS = 10_000;

const OWN = {
  __proto__: null,
  id: (row) => row.id,
  name: (row) => row.name,
  group: (row) => row.group,
  parent: (row) => row.parent,
  experiment: (row) => row.experiment,
  model: (row) => row.model,
  status: (row) => row.status,
  tags: (row) => row.tags,
  started: (row) => row.started,
  ended: (row) => row.ended,
  duration: (row) => (row.ended ? row.duration : secondsSince(row.started)),
  age: (row) => secondsSince(row.last_seen),
  error: (row) => row.error,
  note: (row) => row.note,
  epochs: (row) => row.epochs,
  file: (row) => row.last?.file ?? row.fileName,
  params: (row) => row.params,
  config: (row) => row.config,
  meta: (row) => row.meta,
};

/** Stores the server's decisions on metrics, by flat name: see docs/dashboard-api.md. */
export function learnMetrics(facts) {
  for (const [name, decided] of Object.entries(facts ?? {})) metricFacts.set(name, decided);
}

/** Returns the server's decisions on a metric: `{better, held_out, weight, base}`. */
export function factsOf(metric) {
  const bare = metric.replace(LEVEL, "");
  return metricFacts.get(metric) ?? metricFacts.get(bare) ?? { ...UNKNOWN_METRIC, base: metric };
}

/**
 * Which way metrics are better as the reader has chosen it, by flat name.
 *
 * @type {import("@preact/signals").Signal<Map<string, "min" | "max">>}
 */
export const ways = signal(new Map());

/** Returns which way a metric is better: "min", "max" or null. */
export function better(metric) {
  const chosen = ways.value;
  return (chosen.size && chosen.get(metric.replace(LEVEL, ""))) || factsOf(metric).better;
}

/** Returns a row's value of a name such as `params.lr` or `val_loss`; undefined if missing. */
export function valueOf(row, name) {
  if (!finders.has(name)) {
    if (finders.size >= MOST_FINDERS) finders.clear();
    finders.set(name, finder(name.split(".")));
  }
  const value = finders.get(name)(row);
  return value === undefined ? valueOfOddKey(row, name) : value;
}

/** Returns whether a name, given as its parts, means something for any of some rows. */
export function isKnown(parts, rows) {
  const [group, ...rest] = parts;
  if (!rest.length && group in OWN) return true;
  if (group === "meta" && META_AT_TIMES.has(rest[0])) return true;
  const find = finder(parts);
  // A row may have left out the rest of a group that is long.
  if (rows.some((row) => find(row) !== undefined || row.partial?.includes(group))) return true;
  const isNoMetric = rest.length > 0 && ["params", "config", "meta"].includes(group);
  return !isNoMetric && !rows.some((row) => Object.keys(row.last).length);
}

/** Returns a function of a flat name: whether any of some rows has a metric of that name. */
export function metricsOf(rows) {
  const known = new Map();
  return (name) => {
    if (!known.has(name)) known.set(name, rows.some((row) => own(row.last, name) !== undefined));
    return known.get(name);
  };
}

/**
 * Turns a name, given as its parts, into a function that returns a row's value of it.
 *
 * A bare name is a metric, else a param: `isMetric` decides which for all rows alike.
 */
export function finder(parts, isMetric) {
  const [first, ...rest] = parts;
  const flat = parts.join(".");
  const metric = (row) => restored(own(row.last, flat));
  const param = (row) => restored(inside(row.params, parts, flat));
  if (!rest.length && OWN[first]) return OWN[first];
  if (!rest.length || !GROUPS.includes(first)) {
    if (isMetric) return isMetric(flat) ? metric : param;
    return (row) => {
      const value = metric(row);
      return value === undefined ? param(row) : value;
    };
  }
  const flatRest = rest.join(".");
  const member = (row) => restored(inside(row[first], rest, flatRest));
  // A metric may itself be called "best.acc".
  return first === "best" ? (row) => metric(row) ?? member(row) : member;
}

/** Returns a number in the place of the words that stand in JSON for NaN and infinities. */
export function restored(value) {
  return typeof value === "string" && Object.hasOwn(WORDS, value) ? WORDS[value] : value;
}

/** Returns a table's own value under a key; never a property of JavaScript's objects. */
export function own(table, key) {
  return isDict(table) && Object.hasOwn(table, key) ? table[key] : undefined;
}

/** Returns whether a value is a finite number. */
export const isNumber = Number.isFinite;

/** Returns whether a value is a dict, that is, neither null nor a list. */
export function isDict(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Returns `{opt: {name: 1}}` as `{"opt.name": 1}`. */
export function flatten(nested, prefix = "") {
  return Object.fromEntries(leaves(nested ?? {}).map(([path, value]) => [
    prefix + path.join("."),
    value,
  ]));
}

/** Returns the path of keys to each value inside a nested dict, and the value. */
export function leaves(nested, path = []) {
  return Object.entries(nested).flatMap(([key, value]) =>
    isDict(value) && Object.keys(value).length
      ? leaves(value, [...path, key])
      : [[[...path, key], value]],
  );
}

/**
 * Returns the names of params, then of config, then of meta, in which rows differ; of each those
 * that most rows have come first.
 */
export function varyingNames(rows) {
  return ["params", "config", "meta"].flatMap((group) => {
    const tables = rows.map((row) => flatten(row[group], `${group}.`));
    const counts = new Map();
    for (const name of tables.flatMap(Object.keys)) counts.set(name, (counts.get(name) ?? 0) + 1);
    return differing(tables).sort((a, b) => counts.get(b) - counts.get(a));
  });
}

/** Returns the keys in which flat tables differ, in the order they come. */
export function differing(tables) {
  const firsts = new Map();
  const counts = new Map();
  const found = new Set();
  for (const table of tables) {
    for (const [name, value] of Object.entries(table)) {
      const text = JSON.stringify(value);
      if (!firsts.has(name)) firsts.set(name, text);
      else if (firsts.get(name) !== text) found.add(name);
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
  }
  return [...firsts.keys()].filter((name) => found.has(name) || counts.get(name) < tables.length);
}

/** Returns the names under which any row has a number: params, metrics, best values, its own. */
export function numericNames(rows) {
  const params = new Set();
  const metrics = new Set();
  const best = new Set();
  for (const row of rows) {
    addNumeric(params, flatten(row.params, "params."));
    addNumeric(metrics, row.last);
    addNumeric(best, row.best, "best.");
  }
  return [...params, ...metrics, ...best, ...OWN_NUMBERS];
}

/** Returns a name as a `where` expression must have it, such as "params.`weird key`". */
export function written(name, rows) {
  const [first, ...rest] = pathOf(name, rows);
  return word(first, true) + rest.map((key) => word(key, false)).join("");
}

function word(key, isFirst) {
  if (isPlain(key) && !(isFirst && KEYWORDS.has(key))) return isFirst ? key : `.${key}`;
  if (!key || key.includes("`")) return `${isFirst ? "last" : ""}[${quoted(key)}]`;
  return isFirst ? `\`${key}\`` : `.\`${key}\``;
}

/** Returns text in quotes, as a `where` expression must write it. */
export function quoted(text) {
  return JSON.stringify(text).replace(
    /[\u007f-\uffff]/g,
    (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** As the digits of `shown`: all that a number has. */
export const EXACT = Infinity;

/** Returns the text of a cell, floats with so many significant digits at most. */
export function shown(value, name = "", digits = MOST_DIGITS) {
  if (value === undefined || value === null) return "";
  if (name === "duration" || name === "age") return shownDuration(value);
  if (typeof value === "number") return shownNumber(value, digits);
  if (typeof value === "string") return shownText(value);
  if (Array.isArray(value)) return `[${value.map((item) => shownInside(item, digits)).join(", ")}]`;
  if (typeof value !== "object") return String(value);
  const items = Object.entries(value).map(([key, item]) => `${key}: ${shownInside(item, digits)}`);
  return `{${items.join(", ")}}`;
}

// How numbers are shown: as in casket/reading/numbers.py; tests/dashboard/number_cases.json has the cases.

/** Formats a number: integers in full, others with some significant digits. */
export function shownNumber(number, digits = MOST_DIGITS) {
  if (!isNumber(number) || digits === EXACT) return String(number);
  const size = Math.abs(number);
  if (size < LARGEST && Number.isInteger(number)) return String(number);
  if (size < SMALLEST || size >= LARGEST) {
    return number.toExponential(digits - 1).replace(/\.?0*e/, "e");
  }
  const wholeDigits = String(Math.trunc(size)).length;
  return String(Number(number.toPrecision(Math.max(digits, wholeDigits))));
}

/** Returns the number of significant digits that distinguish the numbers among values. */
export function digitsApart(values) {
  const numbers = [...new Set(values.filter(isNumber))];
  if (numbers.length < 2) return MOST_DIGITS;
  let digits = LEAST_DIGITS;
  while (digits < MOST_DIGITS && !areApart(numbers, digits)) digits += 1;
  return digits;
}

/** Returns a mean and its margin, with the digits that the margin leaves to the mean. */
export function withMargin(mean, margin) {
  if (!isNumber(margin)) return shownNumber(mean);
  if (margin === 0) return `${shownNumber(mean)} ± 0`;
  const places = MARGIN_DIGITS - 1 - exponentOf(margin, MARGIN_DIGITS);
  const meant = mean ? MOST_DIGITS - 1 - exponentOf(mean, MOST_DIGITS) : places;
  if (places > Math.min(meant, MOST_PLACES) || Math.max(Math.abs(mean), margin) >= LARGEST) {
    return `${shownNumber(mean)} ± ${shownNumber(margin, MARGIN_DIGITS)}`;
  }
  return [mean, margin].map((number) => number.toFixed(Math.max(places, 0))).join(" ± ");
}

function areApart(numbers, digits) {
  const seen = new Set();
  for (const number of numbers) {
    const text = shownNumber(number, digits);
    if (seen.has(text)) return false;
    seen.add(text);
  }
  return true;
}

function exponentOf(number, digits) {
  return Number(number.toExponential(digits - 1).split("e")[1]);
}

/** Formats seconds, in two units at most: `41 s`, `2 min 5 s`, `3 h 20 min`, `4 d 1 h`. */
export function shownDuration(seconds, most = 2) {
  if (!isNumber(seconds)) return "";
  if (seconds < 10) return `${Number(Math.max(seconds, 0).toPrecision(2))} s`;
  const whole = Math.round(seconds);
  /** @type {[number, string][]} */
  const parts = [
    [Math.floor(whole / 86400), "d"],
    [Math.floor(whole / 3600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "min"],
    [whole % 60, "s"],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  return parts
    .slice(first, first + most)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(" ");
}

/** Returns the time of a record, such as `2026-11-23 08:57:10`, in UTC as `where` reads it. */
export function shownTime(text) {
  const time = new Date(text);
  return Number.isNaN(time.getTime()) ? text : time.toISOString().slice(0, 19).replace("T", " ");
}

function secondsSince(text) {
  return text ? Math.max(Date.now() - Date.parse(text), 0) / 1000 : undefined;
}

function inside(values, path, flat) {
  let found = values;
  for (const key of path) {
    if (!isDict(found) || !Object.hasOwn(found, key)) return own(values, flat);
    found = found[key];
  }
  return found;
}

/** Finds a value under a key that has a dot in it, inside another: `{opt: {"a.b": 1}}`. */
function valueOfOddKey(row, name) {
  const [path, found] = oddPath(row, name) ?? [];
  return path && restored(found);
}

function oddPath(row, name) {
  const [group] = name.split(".", 1);
  if (!GROUPS.includes(group) || group === name || !isDict(row[group])) return undefined;
  const rest = name.slice(group.length + 1);
  // Each level takes at least a dot, so that most names need no search.
  if (rest.split(".").length < 3) return undefined;
  return leaves(row[group]).find(([path]) => path.join(".") === rest);
}

function pathOf(name, rows) {
  const parts = name.split(".");
  const [group] = parts;
  const rest = name.slice(group.length + 1);
  if (!rest || !GROUPS.includes(group)) return parts;
  for (const row of rows) {
    if (own(row[group], rest) !== undefined) return [group, rest];
    const [path] = oddPath(row, name) ?? [];
    if (path) return [group, ...path];
  }
  return parts;
}

function isPlain(key) {
  return /^[A-Za-z_][A-Za-z0-9_]*$/.test(key);
}

function addNumeric(names, table, prefix = "") {
  for (const [name, value] of Object.entries(table ?? {})) {
    if (typeof restored(value) === "number") names.add(prefix + name);
  }
}

function shownInside(value, digits) {
  return value === null ? "null" : shown(value, "", digits);
}

function shownText(text) {
  return /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[\d.]*(Z|[+-]\d\d:\d\d)$/.test(text)
    ? shownTime(text)
    : text;
}

/** Returns a number of bytes in a suitable unit. */
export function shownSize(bytes) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  const power = Math.min(Math.floor(Math.log10(Math.max(bytes, 1)) / 3), units.length - 1);
  return `${Number((bytes / 1000 ** power).toPrecision(3))} ${units[power]}`;
}
