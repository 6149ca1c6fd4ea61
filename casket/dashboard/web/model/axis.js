// Where an axis is marked, and with which texts, which differ from mark to mark.

import { isNumber, shownDuration, shownNumber } from "casket/model/facts";

const EDGE = 0.04;
const LEAST_EDGE = 0.01;
const MOST_TICKS = 10;
const MOST_MULTIPLES = 40;
const FEWEST = 3;
const [MINUTE, HOUR, DAY] = [60, 3600, 86400];
const STEPS_OF_TIME = [
  1, 2, 5, 10, 15, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE,
  HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY,
];

/** Returns about so many values of the x axis to be marked; `x` says of which kind they are. */
export function ticksOfX([low, high], count, x) {
  const rough = (high - low) / Math.max(count, FEWEST);
  if (x === "metric") return ticks([low, high], count);
  if (x === "number") return withStep(Math.max(roundStep(rough), 1), low, high);
  if (rough <= STEPS_OF_TIME[0]) return ticks([low, high], count);
  const step = STEPS_OF_TIME.find((each) => each >= rough) ?? DAY * roundStep(rough / DAY);
  return withStep(step, low, high);
}

/** Returns the texts of marks of the x axis; clock times are in UTC. */
export function labelsOfX(values, x) {
  if (x === "time") return durations(values);
  return x === "wall" ? clockTimes(values) : labels(values);
}

function durations(values) {
  const texts = values.map((value) => shownDuration(value));
  if (areApart(texts)) return texts;
  const seconds = values.map((value) => shownDuration(value, 4));
  return areApart(seconds) ? seconds : labels(values).map((text) => `${text} s`);
}

/**
 * With the day at the first mark and where it changes, and at all marks of more than a day; parts of
 * seconds have no room for it.
 */
function clockTimes(values) {
  const texts = values.map((value) => new Date(value * 1000).toISOString().replace("T", " "));
  const isLong = values[values.length - 1] - values[0] > DAY;
  const ends = [" 00:00:00.000Z", ":00.000Z", ".000Z", "Z"];
  const end = ends.find((each) => texts.every((text) => text.endsWith(each))) ?? "Z";
  const from = new Set(texts.map((text) => text.slice(0, 4))).size > 1 ? 0 : "2026-".length;
  return texts.map((text, i) => {
    const hasDay = isLong || (end !== "Z" && text.slice(0, 10) !== texts[i - 1]?.slice(0, 10));
    return text.slice(hasDay ? from : "2026-12-01 ".length, text.length - end.length);
  });
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
  return withStep(roundStep((high - low) / Math.max(count, FEWEST)), low, high);
}

/** Returns the least of 1, 2, 5, 10 ... times a power of ten that is not less than a number. */
function roundStep(rough) {
  const power = Math.floor(Math.log10(rough));
  const head = [1, 2, 5].find((each) => Number(`${each}e${power}`) >= rough) ?? 10;
  return Number(`${head}e${power}`);
}

function withStep(step, low, high) {
  const first = Math.ceil(low / step);
  const length = Math.min(Math.max(Math.floor(high / step) - first + 1, 0), MOST_MULTIPLES);
  const [head, power = "0"] = step.toExponential().split("e");
  const [whole, part = ""] = head.split(".");
  // A product with a fraction would be off by its last digits, so the fraction is parsed.
  const multiple = (n) => Number(`${n * Number(whole + part)}e${Number(power) - part.length}`);
  const marks = Array.from({ length }, (_, i) => multiple(first + i));
  return [...new Set(marks)].filter((mark) => mark >= low && mark <= high);
}

/** Returns the texts of marks, which are round numbers, with all their digits. */
export function labels(values) {
  const digits = Math.max(1, ...values.filter(isNumber).map(digitsOf));
  return values.map((value) => (isNumber(value) ? shownNumber(value, digits) : ""));
}

function digitsOf(number) {
  return number.toExponential().split("e")[0].replace(/[-.]/g, "").length;
}

function evenTicks(low, high) {
  const rough = (high - low) / 2;
  const power = Math.floor(Math.log10(rough));
  const head = [5, 2, 1].find((each) => Number(`${each}e${power}`) <= rough);
  return withStep(Number(`${head ?? 1}e${power}`), low, high);
}

function areApart(texts) {
  return new Set(texts).size === texts.length;
}
