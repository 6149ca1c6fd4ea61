// Comparisons and arithmetic in a `where` expression: undefined is a missing value, a Moment
// a time, the rest are JSON's.

import { isDict, restored } from "casket/model/facts";

class Moment {
  constructor(microseconds) {
    this.microseconds = microseconds;
  }
}

const TIME = new RegExp(
  "^(\\d{4}-\\d{2}-\\d{2})(?:[T ](\\d{2}:\\d{2})(?::(\\d{2})(?:\\.(\\d+))?)?" +
    "(Z|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)?)?$",
);

/** Returns the whole number of a text if a browser would round it: the server sends it as text. */
export function wholeOf(text) {
  const isLong = /^-?[0-9]{16,299}$/.test(text) && !Number.isSafeInteger(Number(text));
  return isLong ? BigInt(text) : undefined;
}

/** Returns the time that ISO 8601 text means, in UTC where it has no offset; else the value. */
export function timeOf(value) {
  const match = typeof value === "string" && TIME.exec(value);
  if (!match) return value;
  const [, date, minutes = "00:00", seconds = "00", fraction = "", offset = "Z"] = match;
  const local = new Date(`${date}T${minutes}:${seconds}Z`);
  // JavaScript converts a nonexistent day or hour to another.
  const isReal = !Number.isNaN(local.getTime()) && local.toISOString().startsWith(date);
  if (!isReal || date < "0001") return value;
  const [hours, more] = offset === "Z" ? [0, 0] : offset.slice(1).split(":").map(Number);
  const away = (offset[0] === "-" ? -1 : 1) * (hours * 60 + more) * 60_000;
  return new Moment((local.getTime() - away) * 1000 + Number(fraction.slice(0, 6).padEnd(6, "0")));
}

/** Returns the truth of a value: missing, zero and empty values are false. */
export function isTrue(value) {
  if (Array.isArray(value)) return value.length > 0;
  if (kindOf(value) === "dict") return Object.keys(value).length > 0;
  return Number.isNaN(value) || Boolean(value);
}

/** Returns the item of a list, a text or a dict under a key; undefined if missing. */
export function item(value, key) {
  if (isDict(value)) return Object.hasOwn(value, key) ? restored(value[key]) : undefined;
  if (typeof key === "string") return undefined;
  if (Array.isArray(value)) return restored(value.at(key));
  return typeof value === "string" ? Array.from(value).at(key) : undefined;
}

// In Python true is 1.
function kindOf(value) {
  if (value === null || value === undefined) return "nothing";
  if (["number", "boolean", "bigint"].includes(typeof value)) return "number";
  if (typeof value === "string") return "text";
  if (value instanceof Moment) return "time";
  return Array.isArray(value) ? "list" : "dict";
}

const SAME = {
  nothing: () => true,
  number: (a, b) => orderOfNumbers(a, b) === 0,
  text: (a, b) => a === b,
  time: (a, b) => a.microseconds === b.microseconds,
  list: (a, b) => a.length === b.length && a.every((value, i) => isSame(value, b[i])),
  dict: (a, b) =>
    Object.keys(a).length === Object.keys(b).length &&
    Object.keys(a).every((key) => Object.hasOwn(b, key) && isSame(a[key], b[key])),
};

function isSame(left, right) {
  const kind = kindOf(left);
  return kind === kindOf(right) && SAME[kind](left, right);
}

function alike(left, right) {
  if (left instanceof Moment || right instanceof Moment) return [timeOf(left), timeOf(right)];
  if (kindOf(left) === "number" && typeof right === "string") return [left, wholeOf(right) ?? right];
  if (kindOf(right) === "number" && typeof left === "string") return [wholeOf(left) ?? left, right];
  return [left, right];
}

function isEqual(left, right) {
  return isSame(...alike(left, right));
}

// The order of two values: negative, 0 or positive; NaN if they are in none.
const ORDER = {
  number: orderOfNumbers,
  text: byCodePoints,
  time: (a, b) => a.microseconds - b.microseconds,
};

function order(left, right) {
  const [a, b] = alike(left, right);
  const kind = kindOf(a);
  return kind === kindOf(b) && kind in ORDER ? ORDER[kind](a, b) : NaN;
}

function orderOfNumbers(a, b) {
  if (a < b) return -1;
  if (a > b) return 1;
  return Number.isNaN(a) || Number.isNaN(b) ? NaN : 0;
}

// JavaScript's own order is by halves of characters, Python's by characters.
function byCodePoints(left, right) {
  const [a, b] = [Array.from(left), Array.from(right)];
  const at = a.findIndex((sign, i) => sign !== b[i]);
  if (at < 0) return a.length - b.length;
  return at < b.length ? a[at].codePointAt(0) - b[at].codePointAt(0) : 1;
}

function isMember(value, container) {
  if (Array.isArray(container)) return container.some((each) => isEqual(value, each));
  if (typeof value !== "string") return false;
  if (typeof container === "string") return container.includes(value);
  return isDict(container) && Object.hasOwn(container, value);
}

/** The tests of the comparison operators. */
export const TESTS = {
  "<": (a, b) => order(a, b) < 0,
  "<=": (a, b) => order(a, b) <= 0,
  ">": (a, b) => order(a, b) > 0,
  ">=": (a, b) => order(a, b) >= 0,
  "==": isEqual,
  "!=": (a, b) => !isEqual(a, b),
  is: isEqual,
  "is not": (a, b) => !isEqual(a, b),
  in: isMember,
  "not in": (a, b) => !isMember(a, b),
};

function calculation(operation) {
  return (...values) => {
    const numbers = values.map((value) => (typeof value === "bigint" ? Number(value) : value));
    if (!numbers.every((value) => typeof value === "number")) return undefined;
    const result = operation(...numbers);
    const hasOverflown = isInfinite(result) && !numbers.some(isInfinite);
    return hasOverflown ? undefined : result;
  };
}

function isInfinite(number) {
  return Math.abs(number) === Infinity;
}

// A remainder has the sign of the divisor, as in Python.
function remainder(a, b) {
  const rest = a % b;
  return rest !== 0 && rest < 0 !== b < 0 ? rest + b : rest;
}

function quotient(a, b) {
  const exact = (a - remainder(a, b)) / b;
  return Number.isFinite(exact) ? Math.round(exact) : exact;
}

function divided(operation) {
  return calculation((a, b) => (b === 0 ? undefined : operation(a, b)));
}

export const negative = calculation((a) => -a);
export const ARITHMETIC = {
  "+": calculation((a, b) => a + b),
  "-": calculation((a, b) => a - b),
  "*": calculation((a, b) => a * b),
  "/": divided((a, b) => a / b),
  "//": divided(quotient),
  "%": divided(remainder),
};

function ofTexts(operation) {
  return (...texts) => {
    return texts.every((text) => typeof text === "string") ? operation(...texts) : undefined;
  };
}

function lengthOf(value) {
  if (typeof value === "string") return Array.from(value).length;
  if (Array.isArray(value)) return value.length;
  return isDict(value) && !(value instanceof Moment) ? Object.keys(value).length : undefined;
}

export const FUNCTIONS = {
  __proto__: null,
  abs: { usage: "abs(x)", call: calculation(Math.abs) },
  len: { usage: "len(x)", call: lengthOf },
  lower: { usage: "lower(x)", call: ofTexts((x) => x.toLowerCase()) },
  startswith: { usage: "startswith(x, y)", call: ofTexts((x, y) => x.startsWith(y)) },
  endswith: { usage: "endswith(x, y)", call: ofTexts((x, y) => x.endsWith(y)) },
  isfinite: { usage: "isfinite(x)", call: calculation(Number.isFinite) },
};

/** The functions whose argument is the name of a metric. */
export const OF_METRICS = { __proto__: null, best: "best(metric)", last: "last(metric)" };
