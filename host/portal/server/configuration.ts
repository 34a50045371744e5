import { type Document, isMap, isNode, isScalar, LineCounter, parseDocument } from "yaml";
import { buildConfiguration } from "./configuration-build.ts";
import { explainIssue, fileSchema } from "./configuration-schema.ts";
import type { Configuration } from "./model.ts";

export type KeyPath = readonly (string | number)[];

/** Collects what is wrong with a configuration; all of it is reported at once. */
export interface Problems {
  /** `problem` continues the sentence that the key begins. */
  add(path: KeyPath, problem: string): void;
}

export type ParsedConfiguration =
  | { readonly ok: true; readonly configuration: Configuration }
  /** One line per problem: `file:line: key: what is wrong; what would be right`, in the file's order. */
  | { readonly ok: false; readonly problems: readonly string[] };

/** Longest list of problems reported. */
const MAX_PROBLEMS = 100;

/** Reads a configuration file's text (portal §23). Never throws; `file` only names it in problems. */
export function parseConfiguration(text: string, file: string): ParsedConfiguration {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const report = new Report(document, lines, file);
  for (const error of document.errors) report.atOffset(error.pos[0], `not valid YAML: ${error.message}`);
  if (report.isEmpty) {
    const configuration = read(document, report);
    if (configuration !== undefined && report.isEmpty) return { ok: true, configuration };
  }
  return { ok: false, problems: report.lines() };
}

function read(document: Document, report: Report): Configuration | undefined {
  const parsed = fileSchema.safeParse(toJs(document), { error: explainIssue });
  if (parsed.success) return buildConfiguration(parsed.data, report);
  for (const issue of parsed.error.issues) {
    const path = issue.path.filter((part) => typeof part !== "symbol");
    if (issue.code === "unrecognized_keys") {
      for (const key of issue.keys) report.add([...path, key], issue.message);
    } else {
      report.add(path, issue.message);
    }
  }
  return undefined;
}

/** Aliases that would blow up the tree make the library throw. */
function toJs(document: Document): unknown {
  try {
    return document.toJS({ maxAliasCount: 100 });
  } catch {
    return undefined;
  }
}

class Report implements Problems {
  readonly #document: Document;
  readonly #lineCounter: LineCounter;
  readonly #file: string;
  readonly #problems: { line: number; text: string }[] = [];

  constructor(document: Document, lineCounter: LineCounter, file: string) {
    this.#document = document;
    this.#lineCounter = lineCounter;
    this.#file = file;
  }

  get isEmpty(): boolean {
    return this.#problems.length === 0;
  }

  add(path: KeyPath, problem: string): void {
    const key = pathText(path);
    this.atOffset(this.#offsetOf(path), key === "" ? problem : `${key}: ${problem}`);
  }

  atOffset(offset: number, text: string): void {
    if (this.#problems.length >= MAX_PROBLEMS) return;
    this.#problems.push({ line: Math.max(1, this.#lineCounter.linePos(offset).line), text });
  }

  lines(): string[] {
    return this.#problems
      .toSorted((a, b) => a.line - b.line)
      .map(({ line, text }) => `${this.#file}:${line}: ${text}`);
  }

  /** Where the key is written; of a missing one, where its section begins. */
  #offsetOf(path: KeyPath): number {
    for (let length = path.length; length > 0; length--) {
      const parent = this.#document.getIn(path.slice(0, length - 1), true);
      const key = path[length - 1];
      if (isMap(parent)) {
        const pair = parent.items.find((item) => isScalar(item.key) && item.key.value === key);
        if (pair !== undefined && isNode(pair.key)) return pair.key.range?.[0] ?? 0;
      }
      const node = this.#document.getIn(path.slice(0, length), true);
      if (isNode(node)) return node.range?.[0] ?? 0;
    }
    return 0;
  }
}

function pathText(path: KeyPath): string {
  return path
    .map((part, i) => (typeof part === "number" ? `[${part}]` : i === 0 ? part : `.${part}`))
    .join("");
}
