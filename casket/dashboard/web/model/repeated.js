// Requests that are repeated as long as their answer changes.

/** The server computes answers for a tenth of the time at most. */
const SHARE = 10;

/**
 * Returns a function that makes a request after a pause in milliseconds since its last answer.
 *
 * @param {() => Promise<void>} ask
 */
export function repeated(ask) {
  let answeredAt = -Infinity;
  let cost = 0;
  let timer;
  const run = async () => {
    const began = performance.now();
    await ask();
    answeredAt = performance.now();
    cost = answeredAt - began;
  };
  return (pause) => {
    clearTimeout(timer);
    const due = answeredAt + Math.max(pause, SHARE * cost);
    timer = setTimeout(run, Math.max(due - performance.now(), 0));
  };
}
