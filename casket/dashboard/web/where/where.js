// The `where` language: conditions such as `params.lr < 0.1 and 'svm' in tags`.
//
// docs/where.md is the reference, casket/reading/where.py the same in Python; the same cases
// (tests/dashboard/where_cases.json) go through both.

import { finder } from "casket/model/facts";
import {
  ARITHMETIC,
  FUNCTIONS,
  OF_METRICS,
  TESTS,
  isTrue,
  item,
  negative,
  timeOf,
  wholeOf,
} from "casket/where/where_values";

const LONGEST = 10_000;
const DEEPEST = 30;
const WORDS = { __proto__: null, True: true, true: true, False: false, false: false };
Object.assign(WORDS, { None: null, null: null });
const KEYWORDS = new Set([...Object.keys(WORDS), "and", "or", "not", "in", "is"]);
const TIMES = ["started", "ended"];

const EXAMPLE =
  "write comparisons joined with and, or, not, such as params.lr < 0.1 and 'svm' in tags";
const ADVICE = {
  "==": "= := ===",
  "!=": "<> !== ≠",
  "<=": "=< ≤",
  ">=": "=> ≥",
  and: "& && AND",
  or: "| || OR",
  not: "! ~ NOT",
  "-": "−",
  "straight quotes": "‘ ’ “ ”",
  "a product, such as x * x": "**",
  "a list, such as [1, 2]": "{ }",
  "the name in backquotes, such as params.`a#b`": "# $ : ; ? @ ^ \\",
  "the closing quote, too": "' \" `",
};
const FOREIGN = new Map(
  Object.entries(ADVICE).flatMap(([advice, signs]) => signs.split(" ").map((s) => [s, advice])),
);
const SPACE = "\\u00a0\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000\\ufeff";
const TOKEN = new RegExp(
  `(?<space>[ \\t\\r\\n${SPACE}]+)` +
    "|(?<number>(?:[0-9]+\\.?[0-9]*|\\.[0-9]+)(?:[eE][+-]?[0-9]+)?)" +
    // A letter is also all that is not ASCII, but for spaces and a word processor's signs.
    `|(?<name>[^\\x00-/:-@\\[-^\`{-\\x7f${SPACE}≠≤≥−‘’“”\\ud800-\\udfff]+)` +
    "|(?<quoted>`[^`]+`)" +
    `|(?<text>"(?:[^"\\\\]|\\\\.)*"|'(?:[^'\\\\]|\\\\.)*')` +
    "|(?<foreign>[!=]==|<>|=[<>]|:=|&&|\\|\\||\\*\\*)" +
    "|(?<sign>[<>=!]=|//|[-+*/%<>()\\[\\],.])",
  "suy",
);
const ESCAPE = /(?:\\u[0-9a-fA-F]{4})+|\\./gsu;

/** A mistake in an expression, with its position: an index into it. */
export class Mistake extends Error {
  constructor(message, position) {
    super(message);
    this.position = position;
  }
}

/**
 * Compiles an expression to a function of a row of the table.
 *
 * `isMetric` returns whether any session has a metric of a flat name: a bare name is that, else a
 * param. The function has `names`: of each name its parts, and where it stands.
 */
export function compile(expression, isMetric) {
  if (expression.length > LONGEST) {
    throw new Mistake(`write a shorter expression, of at most ${LONGEST} characters`, 0);
  }
  const parser = new Parser(tokensOf(expression), isMetric);
  const read = parser.whole();
  return Object.assign((row) => isTrue(read(row)), { names: parser.names });
}

function tokensOf(text) {
  const tokens = [];
  let at = 0;
  while (at < text.length) {
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(text);
    const kind = kindOf(match?.groups);
    const sign = match ? match[0] : String.fromCodePoint(text.codePointAt(at));
    const isMember = tokens.at(-1)?.text === ".";
    if (kind === "foreign" || (kind === "name" && FOREIGN.has(sign) && !isMember)) {
      const advice = FOREIGN.get(sign) ?? "plain text";
      throw new Mistake(`${sign} is not read here; write ${advice}`, at);
    }
    if (kind !== "space") {
      tokens.push({ kind, text: sign, start: at, value: valueOf(kind, sign, at) });
    }
    at += sign.length;
  }
  return [...tokens, { kind: "end", text: "", start: at }];
}

/** Returns the name of the group of a token's pattern that matched. */
function kindOf(groups = {}) {
  return Object.keys(groups).find((name) => groups[name]) ?? "foreign";
}

function valueOf(kind, text, start) {
  if (kind === "number") return wholeOf(text) ?? Number(text);
  if (kind === "quoted") return text.slice(1, -1);
  if (kind !== "text") return text;
  return text.slice(1, -1).replace(ESCAPE, (escape, at) => {
    try {
      return escape === "\\'" ? "'" : JSON.parse(`"${escape}"`);
    } catch {
      const message = "this escape is not read; write \\\\ for a backslash";
      throw new Mistake(message, start + 1 + at);
    }
  });
}

/** Recursive descent over LEVELS, the loosest first. */
class Parser {
  names = [];
  #tokens;
  #isMetric;
  #at = 0;
  #depth = 0;

  constructor(tokens, isMetric) {
    this.#tokens = tokens;
    this.#isMetric = isMetric;
  }

  get #token() {
    return this.#tokens[this.#at];
  }

  #next() {
    this.#at += 1;
    return this.#tokens[this.#at - 1];
  }

  #take(...texts) {
    const { kind, text } = this.#token;
    return (kind === "sign" || kind === "name") && texts.includes(text) ? this.#next().text : "";
  }

  #unexpected() {
    const { text, start } = this.#token;
    const problem = text ? `${text} is not expected here` : "the condition is incomplete";
    return new Mistake(`${problem}; ${EXAMPLE}`, start);
  }

  whole() {
    const read = this.#level(0);
    if (this.#token.kind !== "end") throw this.#unexpected();
    return read;
  }

  #nested(level) {
    this.#depth += 1;
    if (this.#depth > DEEPEST) {
      throw new Mistake("this is nested too deeply; write a simpler expression", this.#token.start);
    }
    const read = this.#level(level);
    this.#depth -= 1;
    return read;
  }

  #level(level) {
    if (level === LEVELS.length) return this.#factor();
    const { signs, join } = LEVELS[level];
    if (!join) return this.#take("not") ? this.#negated(level) : this.#level(level + 1);
    const start = this.#at;
    const first = this.#level(level + 1);
    const links = [];
    for (let sign = this.#sign(signs); sign; sign = this.#sign(signs)) {
      const operand = this.#at;
      links.push([TESTS[sign] ?? ARITHMETIC[sign], this.#level(level + 1)]);
      if (sign in ARITHMETIC) [start, operand].forEach((at) => this.#checkNumber(at));
    }
    return links.length ? join(first, links) : first;
  }

  #sign(signs) {
    if (!signs.includes("is")) return this.#take(...signs);
    if (this.#take("not")) {
      if (!this.#take("in")) throw this.#unexpected();
      return "not in";
    }
    const sign = this.#take(...signs);
    if (sign !== "is") return sign;
    const whole = this.#take("not") ? "is not" : "is";
    if (["None", "null"].includes(this.#token.text)) return whole;
    const message = "only None can follow is; write == or != to compare";
    throw new Mistake(message, this.#token.start);
  }

  #negated(level) {
    const read = this.#nested(level);
    return (row) => !isTrue(read(row));
  }

  #factor() {
    if (!this.#take("-")) return this.#primary();
    this.#checkNumber(this.#at);
    const read = this.#nested(LEVELS.length);
    return (row) => negative(read(row));
  }

  #checkNumber(at) {
    const { kind, text, start } = this.#tokens[at];
    if (kind !== "text" && text !== "[" && !(text in WORDS)) return;
    throw new Mistake("only numbers are calculated with; write a number", start);
  }

  #primary() {
    const token = this.#token;
    const { kind, text } = token;
    const isWord = kind === "name" && text in WORDS;
    if (isWord || kind === "number" || kind === "text") {
      const value = isWord ? WORDS[this.#next().text] : this.#next().value;
      return () => value;
    }
    if (kind === "quoted" || (kind === "name" && !KEYWORDS.has(text))) return this.#name();
    const opening = this.#take("(", "[");
    if (!opening) throw this.#unexpected();
    const { items, hasComma } = this.#items(token, opening === "(" ? ")" : "]");
    if (opening === "(" && items.length === 1 && !hasComma) return items[0];
    return (row) => items.map((read) => read(row));
  }

  #items(opening, closing) {
    const items = [];
    let comma = "";
    while (!this.#take(closing)) {
      if (this.#token.kind === "end") {
        throw new Mistake(`this ${opening.text} is never closed`, opening.start);
      }
      if (items.length && !comma) throw this.#unexpected();
      items.push(this.#nested(0));
      comma = this.#take(",");
    }
    return { items, hasComma: Boolean(comma) || items.length > 1 };
  }

  #name() {
    const first = this.#token;
    const steps = this.#steps();
    if (this.#token.text !== "(") return this.#valueOf(first, steps);
    if (steps.length === 1 && first.text in OF_METRICS) return this.#ofMetric(first);
    return this.#call(first, steps.length);
  }

  /** Parse a name and what follows it after dots and in brackets. */
  #steps() {
    const steps = [this.#next().value];
    while (this.#token.text === "." || this.#token.text === "[") {
      steps.push(this.#take(".") ? this.#member() : this.#key());
    }
    return steps;
  }

  #valueOf(first, steps) {
    const end = steps.findIndex((step) => typeof step !== "string");
    const parts = end < 0 ? steps : steps.slice(0, end);
    const last = this.#tokens[this.#at - 1];
    this.names.push({ parts, start: first.start, stop: last.start + last.text.length });
    const find = finder(parts, this.#isMetric);
    if (parts.length === 1 && TIMES.includes(parts[0])) return (row) => timeOf(find(row));
    const keys = steps.slice(parts.length);
    return keys.length ? (row) => keys.reduce(item, find(row)) : find;
  }

  /** Parse `best(val_loss)`, another form of `best.val_loss`. */
  #ofMetric(name) {
    this.#next();
    const { kind, text } = this.#token;
    const isName = (kind === "name" && !KEYWORDS.has(text)) || kind === "quoted";
    const steps = isName ? this.#steps() : [];
    const isMetric = steps.length > 0 && steps.every((step) => typeof step === "string");
    if (!isMetric || !this.#take(")")) {
      const message = `write ${OF_METRICS[name.text]}, with the name of a metric`;
      throw new Mistake(message, name.start);
    }
    return this.#valueOf(name, [name.text, ...steps]);
  }

  #member() {
    const { kind, start } = this.#token;
    if (kind !== "name" && kind !== "quoted") throw new Mistake("write a name after the dot", start);
    return this.#next().value;
  }

  #key() {
    this.#next();
    const { start } = this.#token;
    const minus = this.#take("-");
    const { kind, text, value } = this.#token;
    const isWhole = kind === "number" && /^[0-9]+$/.test(text);
    if (!isWhole && (minus || kind !== "text")) {
      throw new Mistake("write quoted text or a whole number between the brackets", start);
    }
    this.#next();
    if (!this.#take("]")) throw this.#unexpected();
    return minus ? -value : value;
  }

  #call(name, length) {
    const { usage, call } = FUNCTIONS[name.text] ?? {};
    if (length > 1 || !call) {
      const usages = [
        ...Object.values(FUNCTIONS).map((each) => each?.usage),
        ...Object.values(OF_METRICS),
      ].join(", ");
      throw new Mistake(`there is no such function; there are ${usages}`, name.start);
    }
    const { items } = this.#items(this.#next(), ")");
    if (items.length !== usage.split(",").length) throw new Mistake(`write ${usage}`, name.start);
    return (row) => call(...items.map((read) => read(row)));
  }
}

function junction(decisive) {
  return (first, links) => (row) => {
    let value = first(row);
    for (const [, part] of links) {
      if (isTrue(value) === decisive) break;
      value = part(row);
    }
    return value;
  };
}

function comparison(first, links) {
  return (row) => {
    let left = first(row);
    for (const [test, part] of links) {
      const right = part(row);
      if (!test(left, right)) return false;
      left = right;
    }
    return true;
  };
}

function calculation(first, links) {
  return (row) => links.reduce((value, [operate, part]) => operate(value, part(row)), first(row));
}

const LEVELS = [
  { signs: ["or"], join: junction(true) },
  { signs: ["and"], join: junction(false) },
  { signs: ["not"] },
  { signs: ["<", "<=", ">", ">=", "==", "!=", "in", "is"], join: comparison },
  { signs: ["+", "-"], join: calculation },
  { signs: ["*", "/", "//", "%"], join: calculation },
];
