// Reads the text of a `where` expression as Python's parser does, as far as the language goes.

const EXAMPLE =
  "write comparisons joined with and, or, not, such as: params.lr < 0.1 and 'svm' in tags";
const BRACKETS = { __proto__: null, "(": ")", "[": "]", "{": "}" };
const NESTING_LIMIT = 200;
const KEYWORDS = (
  "False None True and as assert async await break class continue def del elif else except " +
  "finally for from global if import in is lambda nonlocal not or pass raise return try while " +
  "with yield"
).split(" ");
const CONSTANTS = { __proto__: null, True: true, False: false, None: null };
const ESCAPES = { a: "\x07", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t", v: "\v" };

const INSTEAD = new Map(
  Object.entries({
    "==": "= := ===",
    "!=": "<> !==",
    "<=": "=<",
    ">=": "=>",
    and: "& && AND",
    or: "| || OR",
    not: "! ~ NOT",
    "a product, such as x * x": "**",
    'a key in brackets and quotes, such as params["a#b"]': "#",
  }).flatMap(([words, signs]) => signs.split(" ").map((sign) => [sign, words])),
);
for (const word of KEYWORDS) {
  INSTEAD.set(word, `a key like that in brackets, such as params["${word}"]`);
}

const QUOTED = String.raw`(?<quote>'''|"""|'|")(?:\\.|[^\\])*?(?:\k<quote>|\\?$)`;
const WORD_SIGN = "[\\p{L}\\p{N}_]";
const SIGNS =
  String.raw`:=|[!=]==|<>|=[<>]?|&&?|\|\|?|[!~#]|\*\*|` +
  `(?<!${WORD_SIGN})(?:AND|OR|NOT)(?!${WORD_SIGN})`;
const AFTER_DOT = `(?<=\\.)(?:${KEYWORDS.join("|")})(?!${WORD_SIGN})`;
const FOREIGN = new RegExp(`${QUOTED}|[<>!=]=(?!=)|(?<found>${SIGNS}|${AFTER_DOT})`, "gu");
const UNREADABLE = /[\0\r\n\ud800-\udfff]/u;

const DIGITS = String.raw`\d(?:_?\d)*`;
const DECIMAL = String.raw`(?:${DIGITS}(?:\.(?:${DIGITS})?)?|\.${DIGITS})(?:[eE][+-]?${DIGITS})?`;
const NUMBER = new RegExp(
  String.raw`^(?:0[xX](?:_?[\da-fA-F])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+|${DECIMAL}[jJ]?)`,
);
const ESCAPE = new RegExp(
  String.raw`\\(?:x([\da-fA-F]{2})|u([\da-fA-F]{4})|U([\da-fA-F]{8})|([0-7]{1,3})|` +
    String.raw`(N\{[^}]*\}|[xuUN])|(.))`,
  "gsu",
);
const NAME = /^[\p{XID_Start}_]\p{XID_Continue}*/u;
const PREFIXED = /^(?:[rRuUbBfF]|[bBfF][rR]|[rR][bBfF])?(?=['"])/;
const SIGN = /^(?:\.\.\.|<<|>>|\/\/|<=|>=|==|!=|->|[-+*/%@^<>()[\]{},:.;])/;

/** What is wrong with an expression, and where: an index into it. */
export class Refused extends Error {
  constructor(message, at) {
    super(message);
    this.at = at;
  }
}

/** Returns the tree of an expression; each node has `type`, `at` and `children`. */
export function parse(text) {
  if (!text) throw new Refused(`the expression is empty; ${EXAMPLE}`, 0);
  refuseForeign(text);
  return new Parser(tokens(text)).whole();
}

function refuseForeign(text) {
  const unreadable = UNREADABLE.exec(text);
  const found = unreadable ?? [...text.matchAll(FOREIGN)].find(({ groups }) => groups.found);
  if (!found) return;
  const instead = INSTEAD.get(found[0]) ?? "one line of plain text";
  throw new Refused(`${repr(found[0])} is not read; write ${instead}`, found.index);
}

function repr(sign) {
  const names = { "\n": "\\n", "\r": "\\r", "\0": "\\x00" };
  return `'${names[sign] ?? sign.replace(/[\ud800-\udfff]/u, escapedHalf)}'`;
}

function escapedHalf(sign) {
  return `\\u${sign.charCodeAt(0).toString(16)}`;
}

function cannotBeRead(problem, at) {
  return new Refused(`this cannot be read (${problem}); ${EXAMPLE}`, at);
}

// Tokens: {kind: "name" | "number" | "text" | "sign" | "end", text, at, end}.

function tokens(text) {
  const found = [];
  const open = [];
  let at = 0;
  for (;;) {
    at += /^[ \t\f]*/.exec(text.slice(at))[0].length;
    if (at >= text.length) break;
    const token = tokenAt(text, at);
    token.isInBrackets = open.length > 0;
    matchBrackets(token, open);
    found.push(token);
    at = token.end;
  }
  found.push({ kind: "end", text: "", at: text.length, unclosed: open.at(-1) });
  return found;
}

function tokenAt(text, at) {
  const rest = text.slice(at);
  const prefix = PREFIXED.exec(rest);
  if (prefix) return quotedToken(text, at, prefix[0].toLowerCase());
  if (/^\.?\d/.test(rest)) return numberToken(rest, at);
  const name = NAME.exec(rest) ?? SIGN.exec(rest);
  if (rest[0] === "\\") throw cannotBeRead("unexpected character \\", at + 1);
  if (!name) throw cannotBeRead(`unreadable character ${Array.from(rest)[0]}`, at);
  const kind = NAME.test(rest) ? "name" : "sign";
  return { kind, text: name[0].normalize("NFKC"), at, end: at + name[0].length };
}

function matchBrackets(token, open) {
  if (token.kind !== "sign") return;
  if (token.text in BRACKETS) {
    open.push(token);
    if (open.length > NESTING_LIMIT) throw cannotBeRead("too many nested parentheses", token.at);
  }
  if (!")]}".includes(token.text)) return;
  const opened = open.pop();
  if (opened && BRACKETS[opened.text] === token.text) return;
  throw cannotBeRead(
    opened
      ? `closing parenthesis '${token.text}' does not match opening parenthesis '${opened.text}'`
      : `unmatched '${token.text}'`,
    token.at,
  );
}

function numberToken(rest, at) {
  const [text] = NUMBER.exec(rest);
  const digits = text.replaceAll("_", "");
  const after = rest[text.length] ?? "";
  if (/[\p{L}\p{N}_]/u.test(after) && !isKeywordAt(rest.slice(text.length))) {
    const isCutShort = after === "_" || /^0[xob]/i.test(text + after);
    throw cannotBeRead("invalid number", at + text.length - (isCutShort ? 0 : 1));
  }
  if (/^0\d*[1-9]\d*$/.test(digits)) {
    throw cannotBeRead("leading zeros in decimal integer literals are not permitted", at);
  }
  const isFloat = !/^0[xob]/i.test(digits) && /[.e]/i.test(digits);
  const value = /j$/i.test(digits) ? undefined : Number(digits);
  return { kind: "number", text, value, isFloat, at, end: at + text.length };
}

// Python reads `1or x` and the like, and warns.
function isKeywordAt(text) {
  return /^(?:and|else|for|if|in|is|not|or)(?![\p{L}\p{N}_])/u.test(text);
}

function quotedToken(text, at, prefix) {
  const start = at + prefix.length;
  const quote = text.startsWith(text[start].repeat(3), start) ? text[start].repeat(3) : text[start];
  let end = start + quote.length;
  while (end < text.length && !text.startsWith(quote, end)) end += text[end] === "\\" ? 2 : 1;
  if (end >= text.length) throw cannotBeRead("unterminated string literal", at);
  const inside = text.slice(start + quote.length, end);
  const isPlain = prefix === "" || prefix === "u" || prefix === "r";
  const value = isPlain ? (prefix === "r" ? inside : unescaped(inside, at)) : undefined;
  return { kind: "text", text: quote, value, at, end: end + quote.length };
}

function unescaped(inside, at) {
  return inside.replace(ESCAPE, (whole, x, u, long, octal, bad, sign) => {
    if (bad) throw cannotBeRead(`an escape like ${whole}`, at);
    const hex = x ?? u ?? long;
    if (hex) return character(Number.parseInt(hex, 16), at);
    if (octal) return character(Number.parseInt(octal, 8), at);
    if (sign === "\\" || sign === "'" || sign === '"') return sign;
    return ESCAPES[sign] ?? whole;
  });
}

function character(code, at) {
  if (code > 0x10ffff) throw cannotBeRead("no such character", at);
  return String.fromCodePoint(code);
}

// A function for each level of Python's grammar, the loosest first.

class Parser {
  #tokens;
  #next = 0;

  constructor(found) {
    this.#tokens = found;
  }

  whole() {
    const at = this.#at;
    let tree = this.#expression();
    if (this.#is(",")) tree = this.#tuple(at, [tree]);
    if (this.#token.kind !== "end") throw this.#unexpected();
    return tree;
  }

  get #token() {
    return this.#tokens[this.#next];
  }

  get #at() {
    return this.#token.at;
  }

  #is(...texts) {
    const { kind, text } = this.#token;
    return (kind === "sign" || kind === "name") && texts.includes(text);
  }

  #take(...texts) {
    if (!this.#is(...texts)) return undefined;
    this.#next += 1;
    return this.#tokens[this.#next - 1];
  }

  #expect(text) {
    const token = this.#take(text);
    if (!token) throw this.#unexpected();
    return token;
  }

  #unexpected() {
    const { unclosed, at } = this.#token;
    if (unclosed) return cannotBeRead(`'${unclosed.text}' was never closed`, unclosed.at);
    return cannotBeRead("invalid syntax", at);
  }

  #expression() {
    const at = this.#at;
    if (this.#is("lambda", "await", "yield", "*")) return this.#other(at, this.#rest());
    const value = this.#junction();
    if (this.#isWithoutComma()) {
      throw cannotBeRead("invalid syntax. Perhaps you forgot a comma?", value.at);
    }
    if (!this.#take("if")) return value;
    const test = this.#junction();
    if (!this.#take("else")) throw cannotBeRead("expected 'else' after 'if' expression", value.at);
    return this.#other(at, [value, test, this.#expression()]);
  }

  #isWithoutComma() {
    const { kind, text, isInBrackets } = this.#token;
    const isWord = kind === "name" && (!KEYWORDS.includes(text) || text in CONSTANTS);
    return isInBrackets && (isWord || kind === "number" || kind === "text" || text === "{");
  }

  /** Skips what is never read, to the end of its brackets. */
  #rest() {
    let level = 0;
    while (this.#token.kind !== "end") {
      if (this.#is("(", "[", "{")) level += 1;
      if (this.#is(")", "]", "}")) level -= 1;
      if (level < 0) break;
      this.#next += 1;
    }
    return [];
  }

  #other(at, children) {
    return { type: "Other", at, children };
  }

  #junction() {
    return this.#joined("Or", "or", () => this.#joined("And", "and", () => this.#inversion()));
  }

  #joined(type, word, part) {
    const at = this.#at;
    const children = [part()];
    while (this.#take(word)) children.push(part());
    return children.length > 1 ? { type, at, children } : children[0];
  }

  #inversion() {
    const at = this.#at;
    if (!this.#take("not")) return this.#comparison();
    return { type: "Not", at, children: [this.#inversion()] };
  }

  #comparison() {
    const at = this.#at;
    const children = [this.#calculation(0)];
    const signs = [];
    for (;;) {
      const sign = this.#comparisonSign();
      if (!sign) break;
      signs.push(sign);
      children.push(this.#calculation(0));
    }
    return signs.length ? { type: "Comparison", at, signs, children } : children[0];
  }

  #comparisonSign() {
    if (this.#take("not")) {
      this.#expect("in");
      return "not in";
    }
    if (this.#take("is")) return this.#take("not") ? "is not" : "is";
    return this.#take("<", "<=", ">", ">=", "==", "!=", "in")?.text;
  }

  #calculation(level) {
    const signs = [["^"], ["<<", ">>"], ["+", "-"], ["*", "/", "//", "%", "@"]][level];
    if (!signs) return this.#factor();
    const at = this.#at;
    let left = this.#calculation(level + 1);
    for (;;) {
      const sign = this.#take(...signs)?.text;
      if (!sign) return left;
      const children = [left, this.#calculation(level + 1)];
      const isRead = ["+", "-", "*", "/", "//", "%"].includes(sign);
      left = isRead ? { type: "Arithmetic", sign, at, children } : this.#other(at, children);
    }
  }

  #factor() {
    const at = this.#at;
    const sign = this.#take("+", "-");
    if (!sign) return this.#primary();
    const children = [this.#factor()];
    return sign.text === "-" ? { type: "Negative", at, children } : this.#other(at, children);
  }

  #primary() {
    const at = this.#at;
    let node = this.#atom();
    for (;;) {
      if (this.#take(".")) node = this.#attribute(at, node);
      else if (this.#take("[")) node = this.#subscript(at, node);
      else if (this.#take("(")) node = this.#call(at, node);
      else return node;
    }
  }

  #call(at, node) {
    return { type: "Call", at, children: [node, ...this.#items(")").children] };
  }

  #attribute(at, node) {
    const { kind, text, at: nameAt } = this.#token;
    if (kind !== "name" || KEYWORDS.includes(text)) throw this.#unexpected();
    this.#next += 1;
    return { type: "Attribute", at, name: text, nameAt, children: [node] };
  }

  #subscript(at, node) {
    const keyAt = this.#at;
    if (this.#is("]")) throw this.#unexpected();
    let key = this.#is(":") ? this.#other(keyAt, this.#rest()) : this.#expression();
    if (this.#is(":")) key = this.#other(keyAt, this.#rest());
    if (this.#is(",")) key = this.#tuple(keyAt, [key]);
    this.#expect("]");
    return { type: "Subscript", at, children: [node, key] };
  }

  #atom() {
    const { kind, text, at } = this.#token;
    if (kind === "number" || kind === "text") return this.#constant();
    if (kind === "sign" && text in BRACKETS) return this.#bracketed();
    if (kind === "sign" && text === "...") {
      this.#next += 1;
      return this.#other(at, []);
    }
    if (kind !== "name" || (KEYWORDS.includes(text) && !(text in CONSTANTS))) {
      throw this.#unexpected();
    }
    this.#next += 1;
    if (text in CONSTANTS) return { type: "Constant", at, value: CONSTANTS[text], children: [] };
    return { type: "Name", at, name: text, nameAt: at, children: [] };
  }

  #constant() {
    const { kind, value, isFloat, at } = this.#token;
    this.#next += 1;
    if (kind === "number") {
      return value === undefined
        ? this.#other(at, [])
        : { type: "Constant", at, value, isFloat, children: [] };
    }
    const parts = [value];
    while (this.#token.kind === "text") {
      parts.push(this.#token.value);
      this.#next += 1;
    }
    return parts.includes(undefined)
      ? this.#other(at, [])
      : { type: "Constant", at, value: parts.join(""), children: [] };
  }

  #bracketed() {
    const { at, text } = this.#token;
    this.#next += 1;
    const { children, hasComma, isOther } = this.#items(BRACKETS[text]);
    if (isOther || (text === "{" && !children.length)) return this.#other(at, children);
    if (text === "(" && children.length === 1 && !hasComma) return children[0];
    return { type: { "(": "Tuple", "[": "List", "{": "Set" }[text], at, children };
  }

  #items(closing) {
    const children = [];
    let [hasComma, isOther] = [false, false];
    while (!this.#is(closing)) {
      children.push(this.#expression());
      if (this.#is("for", "async", ":")) {
        isOther = true;
        this.#rest();
      }
      if (!this.#take(",")) break;
      hasComma = true;
    }
    this.#expect(closing);
    return { children, hasComma, isOther };
  }

  #tuple(at, children) {
    while (this.#take(",")) {
      if (this.#token.kind === "end" || this.#is("]")) break;
      children.push(this.#expression());
    }
    return { type: "Tuple", at, children };
  }
}
