import { z } from "zod";
import { cidrText } from "../core/address.ts";
import type { GatewayResource } from "../core/messages.ts";
import type { Resource, Site } from "../core/policy/resource.ts";
import { cidrField, encodeFilters, filterList, uuid } from "./fields.ts";

/** Which of the two names of "sites" a client understands; no message has both (portal §4). */
export type SiteSpelling = "sites" | "gateway_groups";

/** What the internet resource is called when the portal names it not (tunnel-core §5.2). */
const NAMELESS_INTERNET = "Internet Resource";

const id = uuid<Resource["id"]>();
const text = z
  .string()
  .nullish()
  .transform((value) => value ?? undefined);
const ipStack = z
  .enum(["dual", "ipv4_only", "ipv6_only"])
  .nullish()
  .transform((stack) => stack ?? "dual");

const dns = z.object({
  type: z.literal("dns"),
  id,
  name: z.string(),
  address: z.string(),
  address_description: text,
  ip_stack: ipStack,
  filters: filterList,
});
const cidr = z.object({
  type: z.literal("cidr"),
  id,
  name: z.string(),
  address: cidrField,
  address_description: text,
  filters: filterList,
});
const internet = z.object({ type: z.literal("internet"), id, name: text });

type DecodedResource = z.output<typeof dns> | z.output<typeof cidr> | z.output<typeof internet>;

const siteList = z.array(z.object({ id: uuid<Site["id"]>(), name: z.string() }));
const sites = { sites: siteList.optional(), gateway_groups: siteList.optional() };

/** A resource as a client gets it. */
export const clientResource = z
  .discriminatedUnion("type", [dns.extend(sites), cidr.extend(sites), internet.extend(sites)])
  .transform((value, context): Resource => {
    const named = value.sites ?? value.gateway_groups;
    if (named !== undefined) return toResource(value, named);
    context.addIssue({ code: "custom", path: ["sites"], message: "expected a list" });
    return z.NEVER;
  });

/** A resource as a gateway gets it: without sites. */
export const gatewayResource = z
  .discriminatedUnion("type", [dns, cidr, internet])
  .transform((value): GatewayResource => toResource(value, []));

function toResource(value: DecodedResource, named: readonly Site[]): Resource {
  switch (value.type) {
    case "dns":
      return {
        kind: "dns",
        id: value.id,
        name: value.name,
        address: value.address,
        description: value.address_description,
        ipStack: value.ip_stack,
        filters: value.filters,
        sites: named,
      };
    case "cidr":
      return {
        kind: "cidr",
        id: value.id,
        name: value.name,
        address: value.address,
        description: value.address_description,
        filters: value.filters,
        sites: named,
      };
    case "internet":
      return { kind: "internet", id: value.id, name: value.name ?? NAMELESS_INTERNET, sites: named };
  }
}

/** Client view (portal §6.1): the internet resource has neither name nor filters. */
export function encodeClientResource(resource: Resource, spelling: SiteSpelling): unknown {
  const named = { [spelling]: resource.sites.map((site) => ({ id: site.id, name: site.name })) };
  switch (resource.kind) {
    case "dns":
      return {
        id: resource.id,
        type: "dns",
        name: resource.name,
        address: resource.address,
        address_description: resource.description ?? null,
        ip_stack: resource.ipStack,
        filters: encodeFilters(resource.filters),
        ...named,
      };
    case "cidr":
      return {
        id: resource.id,
        type: "cidr",
        name: resource.name,
        address: cidrText(resource.address),
        address_description: resource.description ?? null,
        filters: encodeFilters(resource.filters),
        ...named,
      };
    case "internet":
      return { id: resource.id, type: "internet", can_be_disabled: true, ...named };
  }
}

/** Gateway view (portal §7.2). */
export function encodeGatewayResource(resource: GatewayResource): unknown {
  if (resource.kind === "internet") return { id: resource.id, type: "internet" };
  return {
    id: resource.id,
    type: resource.kind,
    name: resource.name,
    address: resource.kind === "cidr" ? cidrText(resource.address) : resource.address,
    filters: encodeFilters(resource.filters),
  };
}
