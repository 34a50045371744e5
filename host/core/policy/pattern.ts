/** Address of a DNS resource: labels with wildcards (tunnel-core §11.10). */
export interface Pattern {
  /** Lower case. Equal texts are equal patterns. */
  readonly text: string;
  /** No wildcard at all: matches exactly the name that equals `text`. */
  readonly isExact: boolean;
  readonly labels: readonly LabelPattern[];
}

/** `any-labels` is `**`: zero or more complete labels. */
type LabelPattern = "any-labels" | readonly Token[];

type Token =
  | { readonly kind: "character"; readonly character: string }
  | { readonly kind: "any-character" }
  | { readonly kind: "any-run" }
  | { readonly kind: "set"; readonly ranges: readonly CharacterRange[]; readonly negated: boolean };

interface CharacterRange {
  readonly first: string;
  readonly last: string;
}

/** Longest pattern text accepted: a name has at most 253 characters, `**.` and sets may add some. */
export const MAX_PATTERN_LENGTH = 1024;

/**
 * Undefined if the text is empty, too long, mixes `**` with other characters in one label, has three
 * stars in a row, or leaves a `[` open.
 */
export function parsePattern(text: string): Pattern | undefined {
  if (text === "" || text.length > MAX_PATTERN_LENGTH) return undefined;

  const lower = asciiLowerCase(text);
  const labels: LabelPattern[] = [];
  for (const label of lower.split(".")) {
    const parsed = parseLabel(label);
    if (parsed === undefined) return undefined;
    labels.push(parsed);
  }
  return { text: lower, isExact: !/[*?[]/.test(lower), labels };
}

/** Tests a name in presentation form without trailing dot; case-insensitive in ASCII. */
export function matches(pattern: Pattern, name: string): boolean {
  const lower = asciiLowerCase(name);
  if (pattern.isExact) return lower === pattern.text;
  if (pattern.text.startsWith("*.") && lower === pattern.text.slice(2)) return true;
  return matchLabels(pattern.labels, lower === "" ? [] : lower.split("."));
}

/**
 * Negative: `a` is more specific than `b` and comes first. Compares character by character from the
 * right; the order is total, so equal (0) means equal text.
 */
export function comparePatterns(a: Pattern, b: Pattern): number {
  const shorter = Math.min(a.text.length, b.text.length);
  for (let i = 1; i <= shorter; i++) {
    const left = a.text.charCodeAt(a.text.length - i);
    const right = b.text.charCodeAt(b.text.length - i);
    if (left === right) continue;

    const wildness = wildnessOf(left) - wildnessOf(right);
    return wildness !== 0 ? wildness : right - left;
  }
  return a.text.length - b.text.length;
}

/** Lower-cases A–Z only, as DNS compares names (RFC 4343). */
export function asciiLowerCase(text: string): string {
  return text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

function wildnessOf(charCode: number): number {
  if (charCode === 0x2a) return 2;
  if (charCode === 0x3f) return 1;
  return 0;
}

function parseLabel(label: string): LabelPattern | undefined {
  if (label === "**") return "any-labels";
  if (label.includes("**")) return undefined;

  const tokens: Token[] = [];
  let at = 0;
  while (at < label.length) {
    const character = label.charAt(at);
    if (character === "[") {
      const set = parseSet(label, at + 1);
      if (set === undefined) return undefined;
      tokens.push(set.token);
      at = set.end;
      continue;
    }
    if (character === "*") tokens.push({ kind: "any-run" });
    else if (character === "?") tokens.push({ kind: "any-character" });
    else tokens.push({ kind: "character", character });
    at += 1;
  }
  return tokens;
}

/** `start` is behind the bracket. A closing bracket in first place is a member of the set. */
function parseSet(label: string, start: number): { token: Token; end: number } | undefined {
  const negated = label.charAt(start) === "!";
  const first = negated ? start + 1 : start;
  const close = label.indexOf("]", first + 1);
  if (close < 0) return undefined;

  const ranges: CharacterRange[] = [];
  for (let i = first; i < close; i++) {
    const from = label.charAt(i);
    const isRange = label.charAt(i + 1) === "-" && i + 2 < close;
    ranges.push({ first: from, last: isRange ? label.charAt(i + 2) : from });
    if (isRange) i += 2;
  }
  return { token: { kind: "set", ranges, negated }, end: close + 1 };
}

/** Greedy with one point of return, the last `**`: at most pattern × name steps, whatever the input. */
function matchLabels(pattern: readonly LabelPattern[], name: readonly string[]): boolean {
  let p = 0;
  let n = 0;
  let retryPattern = -1;
  let retryName = 0;

  while (n < name.length) {
    const label = pattern[p];
    if (label === "any-labels") {
      if (p === pattern.length - 1) return true;
      retryPattern = p++;
      retryName = n;
    } else if (label !== undefined && matchLabel(label, name[n] ?? "")) {
      p += 1;
      n += 1;
    } else if (retryPattern >= 0) {
      p = retryPattern + 1;
      n = ++retryName;
    } else {
      return false;
    }
  }
  // A trailing `**` stands behind a dot, so that something must follow; alone it matches everything.
  return p === pattern.length || (pattern.length === 1 && pattern[0] === "any-labels");
}

/** The same scheme inside one label, with `*` as the point of return. */
function matchLabel(tokens: readonly Token[], label: string): boolean {
  let t = 0;
  let i = 0;
  let retryToken = -1;
  let retryAt = 0;

  while (i < label.length) {
    const token = tokens[t];
    if (token?.kind === "any-run") {
      retryToken = t++;
      retryAt = i;
    } else if (token !== undefined && matchCharacter(token, label.charAt(i))) {
      t += 1;
      i += 1;
    } else if (retryToken >= 0) {
      t = retryToken + 1;
      i = ++retryAt;
    } else {
      return false;
    }
  }
  while (tokens[t]?.kind === "any-run") t += 1;
  return t === tokens.length;
}

function matchCharacter(token: Token, character: string): boolean {
  switch (token.kind) {
    case "character":
      return token.character === character;
    case "any-character":
      return true;
    case "any-run":
      return false;
    case "set":
      return (
        token.ranges.some(({ first, last }) => first <= character && character <= last) !== token.negated
      );
  }
}
