/** Levels as an operator reads them: trace per packet, debug per decision, info per state a user feels. */
export type Severity = "trace" | "debug" | "info" | "warn" | "error";

/** Something worth a log line. Values are fields, not part of the sentence; names and addresses only at debug. */
export interface Note {
  readonly kind: "note";
  readonly severity: Severity;
  readonly message: string;
  readonly fields?: Readonly<Record<string, string | number | boolean | undefined>>;
}

export function note(severity: Severity, message: string, fields?: Note["fields"]): Note {
  return fields === undefined
    ? { kind: "note", severity, message }
    : { kind: "note", severity, message, fields };
}
