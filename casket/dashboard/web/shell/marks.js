const MOST = 200;

/** Notes that something was painted, for who measures; a page that is open for days keeps few. */
export function painted(what) {
  const name = `${what}-painted`;
  if (performance.getEntriesByName(name).length >= MOST) performance.clearMarks(name);
  performance.mark(name);
}
