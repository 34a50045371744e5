// Shape of the configuration file (portal §23): keys and types. What values mean is checked afterwards.
import { z } from "zod";

/** An object that refuses other keys, and says which ones it knows. */
function section<Shape extends z.core.$ZodLooseShape>(shape: Shape) {
  const known = Object.keys(shape).join(", ");
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === "unrecognized_keys" ? `is not a key of this section; it knows ${known}` : undefined,
  });
}

const name = z.string();

const filter = section({
  protocol: z.enum(["tcp", "udp", "icmp"]),
  ports: z
    .array(z.union([z.string(), z.number()], { error: 'expected a port such as "443" or "8000-8100"' }))
    .optional(),
});

const resource = section({
  name,
  type: z.enum(["dns", "cidr", "ip", "internet"]),
  address: z.string().optional(),
  description: z.string().optional(),
  ip_stack: z.enum(["dual", "ipv4_only", "ipv6_only"]).optional(),
  filters: z.array(filter).optional(),
  site: z.string(),
});

const sockets = section({
  host: z.string().optional(),
  port: z.number().int().min(0).max(65535).optional(),
  cert: z.string().optional(),
  key: z.string().optional(),
  plain: z.boolean().optional(),
});

const dns = section({
  mode: z.enum(["system", "custom", "secure"]).optional(),
  servers: z.array(z.string()).optional(),
  doh: z.enum(["google", "quad9", "cloudflare", "opendns"]).optional(),
  search_domain: z.string().optional(),
});

export const fileSchema = section({
  account: section({
    id: z.string().optional(),
    slug: z.string(),
    name: z.string().optional(),
    dns: dns.optional(),
  }),
  listen: section({ sockets: sockets.optional() }).optional(),
  storage: section({ tokens: z.string().optional() }).optional(),
  actors: z
    .array(
      section({
        name,
        kind: z.enum(["user", "admin", "service"]),
        email: z.string().optional(),
        enabled: z.boolean().optional(),
      }),
    )
    .optional(),
  groups: z.array(section({ name, members: z.array(z.string()).optional() })).optional(),
  sites: z.array(section({ name })).optional(),
  resources: z.array(resource).optional(),
  policies: z
    .array(
      section({
        group: z.string(),
        resource: z.string(),
        description: z.string().optional(),
        enabled: z.boolean().optional(),
      }),
    )
    .optional(),
});

export type ConfigurationFile = z.output<typeof fileSchema>;
export type FileResource = z.output<typeof resource>;
export type FileFilter = z.output<typeof filter>;

/** What is wrong, and what would be right, in one half sentence that follows the key. */
export function explainIssue(issue: z.core.$ZodRawIssue): string | undefined {
  switch (issue.code) {
    case "invalid_type":
      return issue.input === undefined
        ? `is missing; expected ${typeName(issue.expected)}`
        : `expected ${typeName(issue.expected)}, found ${found(issue.input)}`;
    case "invalid_value":
      return issue.input === undefined
        ? `is missing; expected one of ${issue.values.join(", ")}`
        : `expected one of ${issue.values.join(", ")}, found ${found(issue.input)}`;
    case "too_small":
    case "too_big":
      return `${found(issue.input)} is out of range`;
    default:
      return undefined;
  }
}

function typeName(expected: string): string {
  switch (expected) {
    case "string":
      return "text";
    case "array":
      return "a list";
    case "object":
      return "keys and values";
    case "int":
      return "a whole number";
    case "boolean":
      return "true or false";
    default:
      return `a ${expected}`;
  }
}

function found(value: unknown): string {
  if (value === null) return "nothing";
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" ? "keys and values" : JSON.stringify(value);
}
