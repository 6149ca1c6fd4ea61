// The shapes of what the page's modules hand on; they name them in their comments.

import type { EmbeddedSource, ServerSource } from "casket/model/source";

export type Source = ServerSource | EmbeddedSource;
export type Kind = "epoch" | "batch" | "result";

/** What the charts of the views beside the table have in the address. */
export interface Explore {
  metric?: string;
  mode?: "min" | "max";
  x?: string;
  y?: string;
  color?: string;
  logX?: boolean;
  logY?: boolean;
  axes?: string[];
  brushed?: Record<string, [number, number] | string[]>;
  base?: string;
  baseline?: string;
  all?: boolean;
  search?: string;
  scorer?: string;
  across?: string;
  down?: string;
  slices?: Record<string, string>;
}

/** The state of the view, all of which stands in the address. */
export interface State {
  view: "sessions" | "compare" | "explore" | "session" | "sweep";
  /** The key of the session that is shown. */
  session: string;
  /** The key of the sweep that is shown. */
  sweep: string;
  where: string;
  /** The name of a column, "-" before it turns it round. */
  sort: string;
  /** Null: the usual ones. */
  columns: string[] | null;
  group: string[];
  selected: string[];
  pinned: string[];
  hidden: string[];
  /** Slots of colors that were chosen, as `3~key`. */
  colors: string[];
  show: "10" | "20" | "100" | "all";
  unfinished: boolean;
  goal: string;
  /** Metrics of which the reader said that lower is better, or higher. */
  lower: string[];
  higher: string[];
  /** Null: all. */
  metrics: string[] | null;
  kind: "epoch" | "batch";
  x: "number" | "time" | "wall";
  smooth: number;
  log: boolean;
  band: "interval" | "range";
  range: [number, number] | null;
  /** Whether the y axes reach to outliers, too. */
  outliers: boolean;
  /** The metric on the x axis; empty: none, but `x`. */
  over: string;
  /** The titles of the charts that are pinned. */
  charts: string[];
  /** The ends of y axes, as `title~0.3~1`. */
  ranges: string[];
  explore: Explore;
}

/** A file that is shown. */
export interface File {
  name: string;
  place: string;
  state: "reading" | "ready" | "broken" | "lost";
  error: string | null;
}

/** A session as the table has it; `docs/dashboard-api.md` says what each part means. */
export interface Row {
  key: string;
  id: string;
  /** The id of the session that it is a child of. */
  parent: string | null;
  /** The index of its file. */
  file: number;
  fileName?: string;
  experiment: string;
  model: string;
  status: "running" | "completed" | "failed" | "killed";
  started: string;
  ended: string | null;
  last_seen: string;
  /** Seconds; of a session that has ended. */
  duration?: number;
  params: Record<string, any>;
  config: Record<string, any>;
  meta: Record<string, any>;
  last: Record<string, any>;
  best: Record<string, any>;
  tags: string[];
  note: string;
  name: string;
  group: string | null;
  error: string | null;
  epochs: number;
  /** Flat names of what was logged as numbers. */
  metrics: Record<Kind, string[]>;
  /** Records. */
  counts: Record<Kind, number>;
  images: boolean;
}

/** A sweep, as `GET /api/sweeps` describes it. */
export interface Sweep {
  key: string;
  /** The index of its file. */
  file: number;
  id: string;
  experiment: string;
  model: string;
  /** How many sets it has; null if that is not known. */
  size: number | null;
  done: number;
  failed: number;
  /** The ids of running sessions. */
  running: string[];
  workers: { host: string | null; pid: number | null; session: string; params: object }[];
  per_hour: number | null;
  expected_end: string | null;
  best: { metric: string; value: number; session: string } | null;
  importance: Record<string, number>;
}

/** The curve of a metric of a session, as far as it is here. */
export interface Curve {
  /** The numbers or times. */
  xs: Float64Array;
  /** The values. */
  ys: Float64Array;
  /** How many numbers were logged in the range. */
  count: number;
  /** How many of them are here. */
  shown: number;
  /** How many values are no numbers. */
  leftOut: number;
  /** How many records the session had. */
  seen?: number;
  /** Whether it came. */
  isHere?: boolean;
  /** Whether it is on its way. */
  isAsked?: boolean;
  /** Whether it has to be asked for anew, as a whole. */
  isStale?: boolean;
}

/** What is asked for of all curves of a chart. */
export interface CurvesView {
  kind: "epoch" | "batch";
  x: "number" | "time" | "wall";
  /** How many of a curve come at most. */
  points: number;
  range: [number, number] | null;
}

/** Sessions with equal values under some names. */
export interface Group {
  key: string;
  names: string[];
  values: any[];
  rows: Row[];
}

/** A row of the table: a session, or a group of sessions. */
export interface Item {
  key: string;
  row?: Row;
  /** In how many groups and sessions it stands. */
  depth?: number;
  group?: Group;
  /** Whether the sessions of the group, or the children of the session, are shown. */
  isOpen?: boolean;
}
