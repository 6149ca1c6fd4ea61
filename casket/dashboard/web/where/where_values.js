// What values in a `where` expression are and how they compare, as in Python.
//
// undefined is what is missing, a PlainSet a set, a Moment a time; the rest are JSON's.

import { isDict } from "casket/model/facts";

class PlainSet {
  constructor(items) {
    this.items = items;
  }

  has(value) {
    return this.items.some((item) => isSame(item, value));
  }
}

class Moment {
  constructor(microseconds) {
    this.microseconds = microseconds;
  }
}

class NotAlike extends Error {}

/** Returns a set; in one there are neither lists nor dicts. */
export function setOf(items) {
  const found = new PlainSet([]);
  for (const item of items) {
    if (Array.isArray(item) || isDict(item)) throw new NotAlike();
    if (!found.has(item)) found.items.push(item);
  }
  return found;
}

/** Returns the time that ISO 8601 text tells; anything else as it is. */
export function timeOf(value) {
  return typeof value === "string" ? momentOf(value) : value;
}

/** Tells whether a value counts as true: nothing, zero and what is empty do not. */
export function isTrue(value) {
  switch (kindOf(value)) {
    case "list":
      return value.length > 0;
    case "set":
      return value.items.length > 0;
    case "dict":
      return Object.keys(value).length > 0;
    default:
      return Number.isNaN(value) || Boolean(value);
  }
}

/** Makes a test of two values, false where they are not alike. */
function test(operation) {
  return (left, right) => {
    try {
      return operation(...alike(left, right));
    } catch (error) {
      if (error instanceof NotAlike) return false;
      throw error;
    }
  };
}

function alike(left = null, right = null) {
  const kinds = [kindOf(left), kindOf(right)];
  if (kinds[0] === kinds[1]) return [left, right];
  if (kinds.includes("time")) return [timeOf(left), timeOf(right)];
  return kinds.includes("set") && kinds.includes("list")
    ? [asSet(left), asSet(right)]
    : [left, right];
}

function asSet(value) {
  return value instanceof PlainSet ? value : setOf(value);
}

// In Python true is 1.
function kindOf(value) {
  if (typeof value === "number" || typeof value === "boolean") return "number";
  if (typeof value === "string") return "text";
  if (value === null || value === undefined) return "nothing";
  if (Array.isArray(value)) return "list";
  if (value instanceof PlainSet) return "set";
  return value instanceof Moment ? "time" : "dict";
}

const SAME = {
  nothing: () => true,
  number: (a, b) => Number(a) === Number(b),
  text: (a, b) => a === b,
  time: (a, b) => a.microseconds === b.microseconds,
  set: (a, b) => a.items.length === b.items.length && isSubset(a, b),
  list: (a, b) => a.length === b.length && a.every((value, i) => isSame(value, b[i])),
  dict: (a, b) =>
    Object.keys(a).length === Object.keys(b).length &&
    Object.keys(a).every((key) => Object.hasOwn(b, key) && isSame(a[key], b[key])),
};

function isSame(left, right) {
  const kind = kindOf(left);
  return kind === kindOf(right) && SAME[kind](left, right);
}

function isSubset(left, right) {
  return left.items.every((value) => right.has(value));
}

// The order of two values: negative, 0 or positive; NaN if they are in none.
const ORDER = {
  number: (a, b) => (Number(a) === Number(b) ? 0 : a - b),
  text: codePoints,
  time: (a, b) => a.microseconds - b.microseconds,
  set: (a, b) => (isSubset(a, b) ? a.items.length - b.items.length : NaN),
  list: orderOfLists,
};

function order(left, right) {
  const kind = kindOf(left);
  return kind === kindOf(right) && kind in ORDER ? ORDER[kind](left, right) : NaN;
}

function orderOfLists(left, right) {
  const i = left.findIndex((value, at) => at >= right.length || !isSame(value, right[at]));
  return i < 0 || i >= right.length ? left.length - right.length : order(left[i], right[i]);
}

// JavaScript's own order is by halves of characters, Python's by characters.
function codePoints(left, right) {
  if (left === right) return 0;
  const a = Array.from(left);
  const b = Array.from(right);
  const i = a.findIndex((sign, at) => sign !== b[at]);
  if (i < 0) return -1;
  return i < b.length ? a[i].codePointAt(0) - b[i].codePointAt(0) : 1;
}

function isMember(value, container) {
  switch (kindOf(container)) {
    case "list":
      return container.some((each) => isEqual(value, each));
    case "set":
      return container.items.some((each) => isEqual(value, each));
    case "text":
      return typeof value === "string" && container.includes(value);
    default:
      return isDict(container) && typeof value === "string" && Object.hasOwn(container, value);
  }
}

const isEqual = test(isSame);
const isWithin = test(isMember);
const isLess = test((a, b) => order(a, b) < 0);
const isLessOrEqual = test((a, b) => order(a, b) <= 0);

/** What the signs of comparisons test. */
export const TESTS = {
  "==": isEqual,
  "!=": (a, b) => !isEqual(a, b),
  is: isEqual,
  "is not": (a, b) => !isEqual(a, b),
  in: isWithin,
  "not in": (a, b) => !isWithin(a, b),
  "<": isLess,
  "<=": isLessOrEqual,
  ">": (a, b) => isLess(b, a),
  ">=": (a, b) => isLessOrEqual(b, a),
};

const DAY = 86_400_000;
const DATE = /^(\d{4})(?:-(\d\d)-(\d\d)|(\d\d)(\d\d)|-?W(\d\d)(?:-?([1-7]))?)/;
const CLOCK = /^(\d\d)(?::?(\d\d)(?::?(\d\d)(?:[.,](\d+))?)?)?(Z|[+-].+)?$/;
const OFFSET = /^([+-])(\d\d)(?::?(\d\d)(?::?(\d\d)(?:\.\d+)?)?)?$/;

/** Reads ISO 8601 text; UTC where it names no offset. */
function momentOf(text) {
  const date = DATE.exec(text);
  if (!date) throw new NotAlike();
  const rest = text.slice(date[0].length);
  const day = date[6] ? dayOfWeek(date) : dayOf(date);
  return new Moment(day * 1000 + (rest ? microsecondsOf(rest.slice(1)) : 0));
}

/** @param {string[]} parts - of `DATE` */
function dayOf([, year, month, day, shortMonth, shortDay]) {
  const [m, d] = [Number(month ?? shortMonth), Number(day ?? shortDay)];
  const found = utc(Number(year), m - 1, d);
  if (Number(year) < 1 || found.getUTCMonth() !== m - 1 || d < 1) throw new NotAlike();
  return found.getTime();
}

/** @param {any[]} parts - of `DATE` */
function dayOfWeek([, year, , , , , week, weekday = 1]) {
  // The fourth of January is in the first week.
  const fourth = utc(Number(year), 0, 4);
  const monday = fourth.getTime() - ((fourth.getUTCDay() + 6) % 7) * DAY;
  const found = monday + ((Number(week) - 1) * 7 + Number(weekday) - 1) * DAY;
  const thursday = new Date(monday + ((Number(week) - 1) * 7 + 3) * DAY);
  if (Number(week) < 1 || thursday.getUTCFullYear() !== Number(year)) throw new NotAlike();
  return found;
}

function utc(year, month, day) {
  const date = new Date(0);
  date.setUTCFullYear(year, month, day);
  return date;
}

function microsecondsOf(text) {
  const clock = CLOCK.exec(text);
  if (!clock) throw new NotAlike();
  const [, hours, minutes = 0, seconds = 0, fraction = "", offset = "Z"] = clock;
  if (Number(hours) > 23 || Number(minutes) > 59 || Number(seconds) > 59) throw new NotAlike();
  const time = (Number(hours) * 60 + Number(minutes)) * 60 + Number(seconds);
  const micro = Number(fraction.slice(0, 6).padEnd(6, "0"));
  return (time - secondsOf(offset)) * 1_000_000 + micro;
}

function secondsOf(offset) {
  if (offset === "Z") return 0;
  const parts = OFFSET.exec(offset);
  if (!parts) throw new NotAlike();
  const [, sign, hours, minutes = 0, seconds = 0] = parts;
  const size = (Number(hours) * 60 + Number(minutes)) * 60 + Number(seconds);
  if (size >= 86_400) throw new NotAlike();
  return sign === "-" ? -size : size;
}
