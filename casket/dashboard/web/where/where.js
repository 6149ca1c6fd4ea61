// The `where` language: conditions such as `params.lr < 0.1 and 'svm' in tags`.
//
// The meaning is that of casket/where.py, which reads with Python's parser; the same cases
// (tests/dashboard/where_cases.json) go through both.

import { finder, isDict, restored } from "casket/model/facts";
import { Refused, parse } from "casket/where/where_parser";
import { TESTS, isTrue, setOf, timeOf } from "casket/where/where_values";

const LENGTH_LIMIT = 10_000;
const DEPTH_LIMIT = 50;
const WORDS = { true: true, false: false, null: null };
const TIMES = ["started", "ended"];
const TOO_DEEP = "this is nested too deeply; write a simpler expression";

/** What is wrong with an expression, and where: an index into it. */
export class Mistake extends Error {
  constructor(message, position) {
    super(message);
    this.position = position;
  }
}

/** Turns an expression into a function that tells whether a row of the table meets it. */
export function compile(expression) {
  if (expression.length > LENGTH_LIMIT) {
    const message = `write a shorter expression, of at most ${LENGTH_LIMIT} characters`;
    throw new Mistake(message, 0);
  }
  const text = expression.trim();
  try {
    const tree = parse(text);
    if (depth(tree) > DEPTH_LIMIT) throw new RangeError();
    const value = reader(tree);
    return (row) => isTrue(value(row));
  } catch (error) {
    // A RangeError is thrown by the engine itself when its stack is full.
    if (error instanceof RangeError) throw new Mistake(TOO_DEEP, 0);
    if (!(error instanceof Refused)) throw error;
    throw new Mistake(error.message, expression.indexOf(text) + error.at);
  }
}

/** Returns the names in an expression that can be compiled, each as its parts. */
export function namesIn(expression) {
  return namesOf(parse(expression.trim()));
}

// Counted as Python's syntax tree is, in which names and operators are nodes, too.
function depth(node) {
  if (node.type === "Constant") return 1;
  if (node.type === "Name") return 2;
  return 1 + Math.max(1, ...node.children.map(depth));
}

// What a node of the tree becomes: a function from a row to its value.

function reader(node) {
  if (node.type === "Or" || node.type === "And") return junction(node);
  if (node.type === "Not") return negation(reader(node.children[0]));
  if (node.type === "Negative") return calculation((a) => -a, node.children);
  if (node.type === "Arithmetic") return calculation(ARITHMETIC[node.sign], node.children);
  if (node.type === "Comparison") return comparison(node);
  if (isName(node)) return name(steps(node));
  const value = constant(node);
  return () => value;
}

function isName(node) {
  return ["Name", "Attribute", "Subscript"].includes(node.type) && !isWord(node);
}

function isWord(node) {
  return node.type === "Name" && Object.hasOwn(WORDS, node.name);
}

function constant(node) {
  const { type, children } = node;
  if (type === "Constant") return node.value;
  if (isWord(node)) return WORDS[node.name];
  if (type === "Negative" && typeof children[0].value === "number") return -children[0].value;
  if (type === "List" || type === "Tuple") return children.map(constant);
  if (type === "Set" && !children.some(isLiteral)) return setOf(children.map(constant));
  throw new Refused(
    type === "Call"
      ? "functions cannot be called; compare a value, such as params.lr < 0.1"
      : "this is not read; write a number or plain quoted text, or join with and, or, not",
    node.at,
  );
}

function isLiteral(node) {
  return ["List", "Tuple", "Set"].includes(node.type);
}

function steps(node) {
  if (node.type === "Name") return [plain(node)];
  if (node.type === "Attribute") return [...steps(node.children[0]), plain(node)];
  if (node.type === "Subscript") return [...steps(node.children[0]), key(node.children[1])];
  throw new Refused("write a name before a dot or brackets", node.at);
}

function plain({ name, nameAt }) {
  if (!name.startsWith("__")) return name;
  throw new Refused(`write a key that begins with __ in brackets: params["${name}"]`, nameAt);
}

function key(node) {
  const value = constant(node);
  if (typeof value === "string" || (typeof value === "number" && !isFloat(node))) return value;
  throw new Refused("write quoted text or a whole number between the brackets", node.at);
}

function isFloat(node) {
  return node.type === "Negative" ? node.children[0].isFloat : node.isFloat;
}

function namesOf(node) {
  if (isName(node)) return [partsOf(steps(node))];
  return (node.children ?? []).flatMap(namesOf);
}

// What follows a whole number is looked for inside the value that the name means.
function partsOf(path) {
  const end = path.findIndex((step) => typeof step === "number");
  return end < 0 ? path : path.slice(0, end);
}

function name(path) {
  const parts = partsOf(path);
  const rest = path.slice(parts.length);
  const find = finder(parts);
  if (parts.length === 1 && TIMES.includes(parts[0])) return (row) => timeOf(find(row));
  return rest.length ? (row) => rest.reduce(item, find(row)) : find;
}

function item(value, step) {
  if (isDict(value)) return Object.hasOwn(value, step) ? restored(value[step]) : undefined;
  if (typeof step === "string") return undefined;
  if (Array.isArray(value)) return restored(value.at(step));
  return typeof value === "string" ? Array.from(value).at(step) : undefined;
}

function junction({ type, children }) {
  const parts = children.map(reader);
  const decisive = type === "Or";
  return (row) => {
    let value;
    for (const part of parts) {
      value = part(row);
      if (isTrue(value) === decisive) break;
    }
    return value;
  };
}

function negation(read) {
  return (row) => !isTrue(read(row));
}

function comparison({ signs, children }) {
  signs.forEach((sign, i) => {
    const operand = children[i + 1];
    const isNone = operand.value === null || (isWord(operand) && operand.name === "null");
    if (!sign.startsWith("is") || isNone) return;
    throw new Refused("only None can follow is; write == or != to compare", operand.at);
  });
  const [first, ...others] = children.map(reader);
  const links = others.map((read, i) => [TESTS[signs[i]], read]);
  return (row) => {
    let left = first(row);
    for (const [test, read] of links) {
      const right = read(row);
      if (!test(left, right)) return false;
      left = right;
    }
    return true;
  };
}

function calculation(operation, nodes) {
  const readers = nodes.map(operand);
  return (row) => {
    const numbers = readers.map((read) => read(row));
    if (!numbers.every((value) => typeof value === "number")) return undefined;
    const result = operation(...numbers);
    const hasOverflown = isInfinite(result) && !numbers.some(isInfinite);
    return hasOverflown ? undefined : result;
  };
}

function isInfinite(number) {
  return Math.abs(number) === Infinity;
}

function operand(node) {
  const read = reader(node);
  const isConstant = node.type === "Constant" || isLiteral(node) || isWord(node);
  if (isConstant && typeof constant(node) !== "number") {
    throw new Refused("only numbers are calculated with; write a number", node.at);
  }
  return read;
}

const ARITHMETIC = {
  "+": (a, b) => a + b,
  "-": (a, b) => a - b,
  "*": (a, b) => a * b,
  "/": (a, b) => (b === 0 ? undefined : a / b),
  "//": (a, b) => (b === 0 ? undefined : quotient(a, b)),
  "%": (a, b) => (b === 0 ? undefined : remainder(a, b)),
};

// A remainder has the sign of the divisor, as in Python.
function remainder(a, b) {
  const rest = a % b;
  return rest !== 0 && rest < 0 !== b < 0 ? rest + b : rest;
}

function quotient(a, b) {
  const exact = (a - remainder(a, b)) / b;
  return Number.isFinite(exact) ? Math.round(exact) : exact;
}
