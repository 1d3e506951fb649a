// @ts-check
// The API's page: made in the browser from the OpenAPI and AsyncAPI documents of this server.

import { $, element, saying } from "./page.js";

/** @typedef {import("./types").Shape} Shape */
/** @typedef {import("./types").Described} Described */
/** @typedef {import("./types").Document} Document_ */
/** @typedef {import("./types").Channels} Channels */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} words
 */
function text(tag, words, className = "") {
  const made = element(tag, {}, words);
  made.className = className;
  return made;
}

// --- types in words -------------------------------------------------------------------------

/** @param {string} reference */
function named(reference) {
  return reference.split("/").at(-1) ?? "";
}

/** @param {Shape} schema */
function range(schema) {
  const low = schema.minimum ?? schema.minLength;
  const high = schema.maximum ?? schema.maxLength;
  if (low === undefined && high === undefined) return "";
  return ` (${low ?? "…"} to ${high ?? "…"}${schema.type === "string" ? " characters" : ""})`;
}

/**
 * @param {Shape} schema
 * @returns {string}
 */
function kind(schema) {
  if (schema.$ref) return named(schema.$ref);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.anyOf) return schema.anyOf.map(kind).join(" | ");
  if (schema.type === "array") return `${schema.items ? kind(schema.items) : "any"}[]`;
  if (schema.additionalProperties?.type || schema.additionalProperties?.$ref) {
    return `{ text: ${kind(schema.additionalProperties)} }`;
  }
  return `${schema.format ?? schema.type ?? "any"}${range(schema)}`;
}

/**
 * @param {Shape} schema
 * @param {Record<string, Shape>} schemas
 * @param {Set<string>} seen
 * @returns {HTMLElement}
 */
function fields(schema, schemas, seen = new Set()) {
  const name = schema.$ref ? named(schema.$ref) : "";
  const whole = name ? schemas[name] : schema;
  if (!whole?.properties || seen.has(name)) return text("p", kind(schema));
  const inner = new Set([...seen, name]);
  const rows = Object.entries(whole.properties).map(([field, part]) => {
    const parts = [part, part.items, ...(part.anyOf ?? []), part.additionalProperties];
    const deeper = parts.find((each) => each?.$ref && !inner.has(named(each.$ref)));
    const reference = deeper?.$ref;
    const cell = element("td", {}, text("span", kind(part)));
    if (reference) cell.append(later(named(reference), () => fields({ $ref: reference }, schemas, inner)));
    const needed = (whole.required ?? []).includes(field);
    return element("tr", {}, element("td", {}, text("code", field)), cell,
      text("td", needed ? "always" : "may be left out", "soft"));
  });
  return element("div", {}, text("p", whole.description ?? "", "soft"),
    element("table", {}, ...rows));
}

/**
 * @param {string} title
 * @param {() => HTMLElement} make
 */
function later(title, make) {
  const box = element("details", {}, text("summary", title));
  box.addEventListener("toggle", () => box.append(make()), { once: true });
  return box;
}

// --- one operation --------------------------------------------------------------------------

/** @param {Described} operation */
function parameters(operation) {
  if (!operation.parameters) return null;
  const rows = operation.parameters.map((each) => element("tr", {},
    element("td", {}, text("code", each.name)),
    text("td", each.in, "soft"),
    text("td", kind(each.schema) + (each.required ? ", needed" : "")),
    text("td", each.schema.default === undefined ? "" : `else ${each.schema.default}`, "soft"),
    text("td", each.description ?? each.schema.description ?? "", "soft")));
  return element("div", {}, text("h4", "Takes"), element("table", {}, ...rows));
}

/**
 * @param {Described} operation
 * @param {Document_} document_
 */
function answers(operation, document_) {
  const rows = Object.entries(operation.responses).map(([status, given]) => {
    const answer = given.$ref ? document_.components.responses[named(given.$ref)] : given;
    const cell = element("td", {}, text("span", answer.description));
    for (const [type, { schema }] of Object.entries(answer.content ?? {})) {
      if (type !== "application/json") cell.append(text("span", ` ${type}`, "soft"));
      else cell.append(later(kind(schema), () => fields(schema, document_.components.schemas)));
    }
    return element("tr", {}, element("td", {}, text("code", status)), cell);
  });
  return element("div", {}, text("h4", "Answers"), element("table", {}, ...rows));
}

/**
 * @param {string} path
 * @param {Described} operation
 */
function attempt(path, operation) {
  const inputs = (operation.parameters ?? []).filter((each) => each.in !== "header").map((each) => ({
    ...each, input: element("input", { name: each.name, required: each.required ?? false }),
  }));
  const result = element("pre", { hidden: true });
  const form = element("form", {},
    ...inputs.map((each) => element("label", {}, `${each.name} `, each.input)),
    element("button", { textContent: "Try it" }), result);
  form.addEventListener("submit", async (submitted) => {
    submitted.preventDefault();
    const query = new URLSearchParams();
    let address = path;
    for (const { name, in: place, input } of inputs) {
      if (place === "path") address = address.replace(`{${name}}`, encodeURIComponent(input.value));
      else if (input.value !== "") query.set(name, input.value);
    }
    const url = query.size ? `${address}?${query}` : address;
    result.hidden = false;
    try {
      const response = await fetch(url);
      const json = (response.headers.get("Content-Type") ?? "").includes("json");
      const body = json ? JSON.stringify(await response.json(), null, 1) : await response.text();
      result.textContent = `${url}\n${response.status} ${response.statusText}\n${body.slice(0, 20_000)}`;
    } catch (error) {
      result.textContent = `${url}\n${saying(error)}`;
    }
  });
  return form;
}

/**
 * @param {string} path
 * @param {string} method
 * @param {Described} operation
 * @param {Document_} document_
 */
function describe(path, method, operation, document_) {
  const made = element("details", { id: operation.operationId }, element("summary", {},
    text("span", method.toUpperCase(), "method"), text("code", path), " ",
    text("span", operation.summary, "soft"), text("span", operation["x-role"], "role soft")));
  made.dataset.words = `${method} ${path} ${operation.summary}`.toLowerCase();
  made.addEventListener("toggle", () => {
    if (operation.description) made.append(text("p", operation.description));
    made.append(...[parameters(operation)].filter((part) => part !== null));
    const body = operation.requestBody?.content["application/json"]?.schema;
    if (body) made.append(text("h4", "Body"), fields(body, document_.components.schemas));
    made.append(answers(operation, document_));
    if (method === "get") made.append(text("h4", "Try it"), attempt(path, operation));
  }, { once: true });
  return made;
}

// --- WebSocket messages ---------------------------------------------------------------------

/**
 * @param {string} channel
 * @param {string} address
 * @param {string} action
 * @param {import("./types").ChannelMessage} message
 * @param {Channels} document_
 */
function telling(channel, address, action, message, document_) {
  const sent = action === "send";
  const made = element("details", { id: `message-${channel}-${message.title}` },
    element("summary", {}, text("span", sent ? "SENT" : "SAY", "method"),
      text("code", message.name), " ", text("span", message.summary, "soft"),
      text("span", message["x-topic"] ?? "", "role soft")));
  made.dataset.words = `${address} ${message.name} ${message.summary}`.toLowerCase();
  made.addEventListener("toggle", () => made.append(
    fields(message.payload, document_.components.schemas)), { once: true });
  return made;
}

/** @param {Channels} document_ */
function addChannels(document_) {
  for (const { action, channel, messages } of Object.values(document_.operations)) {
    const name = named(channel.$ref);
    const { address, description } = document_.channels[name];
    const known = document.getElementById(`channel-${name}`);
    const section = known ?? element("section", { id: `channel-${name}` }, text("h2", address),
      text("p", description, "soft"));
    for (const { $ref } of messages) {
      const message = document_.components.messages[named($ref)];
      section.append(telling(name, address, action, message, document_));
    }
    if (known) continue;
    $("operations").append(section);
    $("topics").append(element("a", { href: `#${section.id}`, textContent: address }));
  }
}

// --- the page -------------------------------------------------------------------------------

/**
 * @param {ParentNode} within
 * @param {string} selector
 * @returns {NodeListOf<HTMLElement>}
 */
const all = (within, selector) => within.querySelectorAll(selector);

function find() {
  const words = $("find").value.toLowerCase().split(/\s+/);
  for (const each of all(document, "main > section")) {
    let shown = 0;
    for (const operation of all(each, ":scope > details")) {
      operation.hidden = !words.every((word) => operation.dataset.words?.includes(word));
      shown += operation.hidden ? 0 : 1;
    }
    each.hidden = shown === 0;
  }
}

/**
 * @param {string} address
 * @returns {Promise<any>}
 */
async function read(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address} cannot be read: ${response.status}`);
  return response.json();
}

async function start() {
  const [document_, messages] = await Promise.all(
    ["/api/openapi.json", "/api/asyncapi.json"].map(read));
  $("about").textContent = `${document_.info.title} ${document_.info.version}. ${document_.info.description}`;
  for (const { name } of document_.tags) {
    const section = element("section", { id: `topic-${name.replaceAll(" ", "-")}` }, text("h2", name));
    for (const [path, methods] of Object.entries(document_.paths)) {
      for (const [method, operation] of Object.entries(methods)) {
        if (operation.tags[0] === name) section.append(describe(path, method, operation, document_));
      }
    }
    if (section.children.length < 2) continue;
    $("operations").append(section);
    $("topics").append(element("a", { href: `#${section.id}`, textContent: name }));
  }
  addChannels(messages);
  $("find").addEventListener("input", find);
}

start().catch((error) => ($("about").textContent = `That did not work: ${saying(error)}`));
