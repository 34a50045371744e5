import type { Note } from "../core/note.ts";
import type { Logger } from "./log.ts";

/** The four levels of a pino-compatible logger that the portal and its connections use. */
export type PortalLog = Pick<Logger, "debug" | "info" | "warn" | "error">;

/** Writes a machine's note; what is only for traces counts as debug. */
export function logPortalNote(log: PortalLog | undefined, { severity, message, fields }: Note): void {
  log?.[severity === "trace" ? "debug" : severity](fields ?? {}, message);
}
