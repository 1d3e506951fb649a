// What the page's modules know beside api.d.ts, which is made from docs/openapi.json.

import type { components, paths } from "./api";

export type Schemas = components["schemas"];
export type Method = "get" | "post" | "put" | "patch" | "delete";

type Operation<M extends Method, P extends keyof paths> = Exclude<paths[P][M], undefined>;

/** The paths that have a method. */
export type PathsWith<M extends Method> = {
  [P in keyof paths]: [Operation<M, P>] extends [never] ? never : P;
}[keyof paths];

/** One part of what a route takes: needed where the route needs it, and absent where it takes none. */
type Taken<Name extends string, Parameters, Part extends string> =
  Parameters extends { [K in Part]: infer Value } ? { [K in Name]: Value }
  : Parameters extends { [K in Part]?: infer Value }
    ? { [K in Name]?: Exclude<Value, undefined> }
    : { [K in Name]?: never };

type Body<O> =
  O extends { requestBody: { content: { "application/json": infer B } } } ? { body: B }
  : O extends { requestBody?: { content: { "application/json": infer B } } } ? { body?: B }
  : { body?: never };

type Given<O> = O extends { parameters: infer Parameters }
  ? Taken<"path", Parameters, "path"> & Taken<"query", Parameters, "query"> & Body<O>
    & { signal?: AbortSignal }
  : never;

/** What a call takes after its path; nothing needs to be given where nothing is needed. */
export type Arguments<M extends Method, P extends keyof paths> =
  {} extends Given<Operation<M, P>>
    ? [given?: Given<Operation<M, P>>]
    : [given: Given<Operation<M, P>>];

/** The JSON that a route answers, whatever its status; null where it answers none. */
export type Answer<M extends Method, P extends keyof paths> =
  Operation<M, P> extends { responses: infer R }
    ? {
        [S in keyof R]: R[S] extends { content: infer C }
          ? C extends { "application/json": infer J } ? J : never
          : null;
      }[keyof R]
    : never;

/** What `given` may be inside the client, where the path is no longer a literal. */
export interface AnyGiven {
  path?: Record<string, string | number>;
  query?: Record<string, unknown>;
  body?: unknown;
  signal?: AbortSignal;
}

/** The elements of the page that its script looks for, by their id. */
export interface Elements {
  camera: HTMLSelectElement;
  level: HTMLSelectElement;
  "open-only": HTMLInputElement;
  key: HTMLInputElement;
  login: HTMLFormElement;
  filters: HTMLFormElement;
  older: HTMLButtonElement;
  "sign-out": HTMLButtonElement;
  timeline: HTMLOListElement;
  unverified: HTMLOListElement;
  "scene-changes": HTMLOListElement;
  services: HTMLDetailsElement;
  "service-rows": HTMLTableSectionElement;
  empty: HTMLElement;
  error: HTMLElement;
  health: HTMLElement;
  live: HTMLElement;
  refused: HTMLElement;
  stages: HTMLElement;
  unregistered: HTMLElement;
  about: HTMLElement;
  find: HTMLInputElement;
  operations: HTMLElement;
  topics: HTMLElement;
  who: HTMLElement;
  "who-name": HTMLElement;
}

/** An event as the timeline has it: of a page of the API, or told by the live feed. */
export type Shown = Pick<Schemas["EventAnswer"], "id" | "camera_id"> & Partial<Schemas["EventAnswer"]>;

type Change = Schemas["SceneChangeAnswer"];

/** What /ws/events tells of a change of a camera's view. */
export type SceneChangeTold = { camera_id: string; ids: string[]; at: string } & (
  | ({ change: "detected" } & Pick<Change, "change_type" | "severity" | "similarity_score" | "links">)
  | { change: "restored" | "acknowledged" }
);

/** A message of /ws/events; docs/websockets.md says which there are. */
export type Message = { cursor?: string } & (
  | { type: "hello"; resumed: boolean }
  | { type: "event"; data: Record<string, unknown> & { id: string; picture_id: string | null } }
  | { type: "unverified_activity"; data: Omit<Schemas["UnverifiedAnswer"], "state" | "event_id"> }
  | { type: "event_reviewed"; data: { event_id: string; camera_id: string; reviewed?: boolean } }
  | { type: "camera_status"; data: { camera_id: string } }
  | { type: "scene_change"; data: SceneChangeTold }
);

/** A JSON schema, as far as the page of the API shows it. */
export interface Shape {
  $ref?: string;
  type?: string;
  format?: string;
  description?: string;
  default?: unknown;
  enum?: unknown[];
  const?: unknown;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  anyOf?: Shape[];
  items?: Shape;
  properties?: Record<string, Shape>;
  additionalProperties?: Shape;
  required?: string[];
}

export interface Response {
  $ref?: string;
  description: string;
  content?: Record<string, { schema: Shape }>;
}

/** An operation of the OpenAPI document. */
export interface Described {
  operationId: string;
  summary: string;
  description?: string;
  tags: string[];
  "x-role": string;
  parameters?: { name: string; in: string; required?: boolean; description?: string; schema: Shape }[];
  requestBody?: { content: Record<string, { schema: Shape }> };
  responses: Record<string, Response>;
}

/** The OpenAPI document. */
export interface Document {
  info: { title: string; version: string; description: string };
  tags: { name: string }[];
  paths: Record<string, Record<string, Described>>;
  components: { schemas: Record<string, Shape>; responses: Record<string, Response> };
}

export interface ChannelMessage {
  name: string;
  title: string;
  summary: string;
  "x-topic"?: string;
  payload: Shape;
}

/** The AsyncAPI document. */
export interface Channels {
  operations: Record<string, { action: string; channel: { $ref: string }; messages: { $ref: string }[] }>;
  channels: Record<string, { address: string; description: string }>;
  components: { messages: Record<string, ChannelMessage>; schemas: Record<string, Shape> };
}
