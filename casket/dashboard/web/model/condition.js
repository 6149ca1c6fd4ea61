// The condition that sessions are filtered by, and the language it is written in.

import { computed, effect, signal } from "@preact/signals";

import { metricsOf } from "casket/model/facts";
import { data } from "casket/model/page";
import { fields } from "casket/model/view";

const PAUSE_IN_WRITING = 1000;
const UNREAD = { fits: null, mistake: null, names: [] };
const ANY = { ...UNREAD, fits: () => true };

const text = fields("where");
const language = signal(/** @type {any} */ (null));
const problem = signal("");

/** Whether somebody is writing the condition. */
export const isWriting = signal(false);

/** The condition as `{fits, mistake, names}`; an empty condition fits all. */
export const condition = computed(() => {
  const { where } = text.value;
  if (!where.trim()) return ANY;
  if (language.value) return read(where, data.all.value, language.value);
  return problem.value ? { ...UNREAD, mistake: { message: problem.value, position: 0 } } : UNREAD;
});

/** Loads the parser of conditions, which most visits do not need. */
export async function loadLanguage() {
  try {
    language.value ??= await import("casket/where/where");
  } catch {
    problem.value = "What reads conditions did not load; reload the page.";
  }
}

effect(() => {
  if (text.value.where.trim() && !language.value && !problem.value) loadLanguage();
});

effect(() => {
  text.value; // typing restarts the pause
  if (!isWriting.value) return undefined;
  const timer = setTimeout(() => (isWriting.value = false), PAUSE_IN_WRITING);
  return () => clearTimeout(timer);
});

function read(where, rows, { Mistake, compile }) {
  try {
    const fits = compile(where, metricsOf(rows));
    return { fits, mistake: null, names: fits.names };
  } catch (error) {
    if (!(error instanceof Mistake)) throw error;
    return { ...UNREAD, mistake: error };
  }
}
