import { createHmac, randomUUID } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

// The application part of the id, so that it does not give away the machine id (platform §2.3).
const APPLICATION_KEYS = {
  client: "e1e465ce763e4759945c650ac334501f",
  gateway: "753b38f9f96947ef8083802d5909a372",
} as const;

/**
 * The stable id this device is known by: from `<directory>/id.json`, else derived from the machine id,
 * else random and stored.
 */
export function deviceId(role: keyof typeof APPLICATION_KEYS, directory: string): string {
  const file = path.join(directory, "id.json");
  const stored = readStored(file);
  if (stored !== undefined) return stored;

  const machineId = readMachineId();
  if (machineId !== undefined) {
    return createHmac("sha256", APPLICATION_KEYS[role]).update(machineId).digest("hex");
  }
  const id = randomUUID();
  fs.mkdirSync(directory, { recursive: true, mode: 0o770 });
  fs.writeFileSync(file, JSON.stringify({ id }), { mode: 0o640, flag: "wx" });
  return id;
}

function readStored(file: string): string | undefined {
  try {
    const { id } = JSON.parse(fs.readFileSync(file, "utf8")) as { id?: unknown };
    return typeof id === "string" && id !== "" ? id : undefined;
  } catch {
    return undefined;
  }
}

function readMachineId(): Buffer | undefined {
  try {
    const bytes = fs.readFileSync("/etc/machine-id");
    return bytes.length > 1 ? bytes : undefined;
  } catch {
    return undefined;
  }
}
