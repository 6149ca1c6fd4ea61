// The sweeps of the files: how many sets are done, what runs, and when they end.

import { computed, effect, signal } from "@preact/signals";

import { bestRow, mainMetric, scoredNames } from "casket/model/metrics";
import { data, source } from "casket/model/page";
import { repeated } from "casket/model/repeated";
import { fields } from "casket/model/view";

/** @typedef {import("casket/types").Row} Row */
/** @typedef {import("casket/types").Sweep} Sweep */

const PAUSE = 1000;
const PAUSE_ELSEWHERE = 10_000;
const MANY = 10;
const LEAST_SILENCE = 600;

/**
 * The sweeps, as the server counts them.
 *
 * @type {import("@preact/signals").Signal<Sweep[]>}
 */
export const sweeps = signal([]);
/** Why they could not be counted; empty if they could. */
export const problem = signal("");
/** Whether any session is of a sweep. */
export const hasSweeps = computed(() => data.rows.value.some((row) => row.meta.sweep?.id));

const shownView = fields("view");

const count = repeated(async () => {
  try {
    const counted = await source.sweeps();
    sweeps.value = counted.map((sweep) => ({ ...sweep, key: keyOf(sweep) }));
    problem.value = "";
  } catch (error) {
    problem.value = error.message;
  }
});

effect(() => {
  data.rows.value; // any change may be of a sweep
  const isWatched = shownView.value.view === "sweep";
  if (hasSweeps.value) count(isWatched ? PAUSE : PAUSE_ELSEWHERE);
});

/**
 * Returns the sweep of a key, else the latest of those at work, else the latest.
 *
 * @param {Sweep[]} list
 * @param {string} key
 */
export function sweepOf(list, key) {
  return list.find((sweep) => sweep.key === key) ?? list.findLast(({ running }) => running.length) ?? list.at(-1);
}

/**
 * Returns the sessions of a sweep, in order of their start.
 *
 * @param {Sweep} sweep
 * @param {Row[]} rows
 */
export function trialsOf({ file, experiment, model, id }, rows) {
  const isOwn = (row) =>
    row.meta.sweep?.id === id && row.file === file &&
    row.experiment === experiment && row.model === model;
  return rows.filter(isOwn).sort((a, b) => (a.started < b.started ? -1 : 1));
}

/** Returns the metric by which trials are judged: a chosen one, else that of the server. */
export function goalOf(sweep, trials, chosen) {
  const names = [...new Set(trials.flatMap(scoredNames))].sort();
  const goal = [chosen, sweep.best?.metric].find((name) => names.includes(name));
  return { names, goal: goal ?? mainMetric(trials) };
}

/** Returns the trials that are completed, and the best of them. */
export function standing(trials, goal) {
  const done = trials.filter(({ status }) => status === "completed");
  return { done, best: bestRow(done, goal) };
}

/** Returns how long a session has not logged, if that is far longer than usual; in seconds. */
export function silenceOf(row, now) {
  const silent = (now - Date.parse(row.last_seen)) / 1000;
  const usual = (Date.parse(row.last_seen) - Date.parse(row.started)) / 1000 / Math.max(row.epochs, 1);
  return silent > Math.max(MANY * usual, LEAST_SILENCE) ? { silent, usual } : null;
}

function keyOf({ file, experiment, model, id }) {
  return [file, id, experiment, model].join(":");
}
