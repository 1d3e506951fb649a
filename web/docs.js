// The API's page: made in the browser from the OpenAPI document that this server gives out.

const $ = (id) => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

const text = (tag, words, className = "") => element(tag, { textContent: words, className });

// --- types in words -------------------------------------------------------------------------

function named(reference) {
  return reference.split("/").at(-1);
}

function range(schema) {
  const low = schema.minimum ?? schema.minLength;
  const high = schema.maximum ?? schema.maxLength;
  if (low === undefined && high === undefined) return "";
  return ` (${low ?? "…"} to ${high ?? "…"}${schema.type === "string" ? " characters" : ""})`;
}

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

function fields(schema, schemas, seen = new Set()) {
  const name = schema.$ref ? named(schema.$ref) : "";
  const whole = name ? schemas[name] : schema;
  if (!whole?.properties || seen.has(name)) return text("p", kind(schema));
  const inner = new Set([...seen, name]);
  const rows = Object.entries(whole.properties).map(([field, part]) => {
    const parts = [part, part.items, ...(part.anyOf ?? []), part.additionalProperties];
    const deeper = parts.find((each) => each?.$ref && !inner.has(named(each.$ref)));
    const cell = element("td", {}, text("span", kind(part)));
    if (deeper) cell.append(later(named(deeper.$ref), () => fields(deeper, schemas, inner)));
    const needed = (whole.required ?? []).includes(field);
    return element("tr", {}, element("td", {}, text("code", field)), cell,
      text("td", needed ? "always" : "may be left out", "soft"));
  });
  return element("div", {}, text("p", whole.description ?? "", "soft"),
    element("table", {}, ...rows));
}

function later(title, make) {
  const box = element("details", {}, text("summary", title));
  box.addEventListener("toggle", () => box.append(make()), { once: true });
  return box;
}

// --- one operation --------------------------------------------------------------------------

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
      result.textContent = `${url}\n${error.message}`;
    }
  });
  return form;
}

function describe(path, method, operation, document_) {
  const made = element("details", { id: operation.operationId }, element("summary", {},
    text("span", method.toUpperCase(), "method"), text("code", path), " ",
    text("span", operation.summary, "soft"), text("span", operation["x-role"], "role soft")));
  made.dataset.words = `${method} ${path} ${operation.summary}`.toLowerCase();
  made.addEventListener("toggle", () => {
    if (operation.description) made.append(text("p", operation.description));
    made.append(...[parameters(operation)].filter(Boolean));
    const body = operation.requestBody?.content["application/json"]?.schema;
    if (body) made.append(text("h4", "Body"), fields(body, document_.components.schemas));
    made.append(answers(operation, document_));
    if (method === "get") made.append(text("h4", "Try it"), attempt(path, operation));
  }, { once: true });
  return made;
}

// --- the page -------------------------------------------------------------------------------

function find() {
  const words = $("find").value.toLowerCase().split(/\s+/);
  for (const each of document.querySelectorAll("main > section")) {
    let shown = 0;
    for (const operation of each.querySelectorAll(":scope > details")) {
      operation.hidden = !words.every((word) => operation.dataset.words.includes(word));
      shown += operation.hidden ? 0 : 1;
    }
    each.hidden = shown === 0;
  }
}

async function start() {
  const response = await fetch("/api/openapi.json");
  if (!response.ok) throw new Error(`the document cannot be read: ${response.status}`);
  const document_ = await response.json();
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
  $("find").addEventListener("input", find);
}

start().catch((error) => ($("about").textContent = `That did not work: ${error.message}`));
