// @ts-check
// The API as the page calls it: paths, parameters, bodies and answers are those of
// docs/openapi.json (api.d.ts), so a name that the API does not have fails `make lint`.

/** @typedef {import("./types").Schemas["Problem"]} Problem */
/** @typedef {import("./types").AnyGiven} AnyGiven */

/** The API refused a request, or could not be reached; `code` is its stable word for why. */
export class ApiError extends Error {
  /**
   * @param {string} detail
   * @param {number} status 0: nothing answered
   * @param {string} code
   */
  constructor(detail, status, code) {
    super(detail);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
  }
}

/** Calls the API of this page's server. */
export class Client {
  constructor() {
    /** @type {string | null} What the server wants to see with every change by a session. */
    this.changeToken = null;
    /** Called when the server does not, or no longer, know who calls. */
    this.onSignedOut = () => {};
  }

  /**
   * @template {import("./types").PathsWith<"get">} P
   * @param {P} path
   * @param {import("./types").Arguments<"get", P>} given
   * @returns {Promise<import("./types").Answer<"get", P>>}
   */
  get(path, ...given) {
    return this.#ask("GET", path, given[0]);
  }

  /**
   * @template {import("./types").PathsWith<"post">} P
   * @param {P} path
   * @param {import("./types").Arguments<"post", P>} given
   * @returns {Promise<import("./types").Answer<"post", P>>}
   */
  post(path, ...given) {
    return this.#ask("POST", path, given[0]);
  }

  /**
   * @template {import("./types").PathsWith<"patch">} P
   * @param {P} path
   * @param {import("./types").Arguments<"patch", P>} given
   * @returns {Promise<import("./types").Answer<"patch", P>>}
   */
  patch(path, ...given) {
    return this.#ask("PATCH", path, given[0]);
  }

  /**
   * @template {import("./types").PathsWith<"delete">} P
   * @param {P} path
   * @param {import("./types").Arguments<"delete", P>} given
   * @returns {Promise<import("./types").Answer<"delete", P>>}
   */
  delete(path, ...given) {
    return this.#ask("DELETE", path, given[0]);
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {AnyGiven} [given]
   * @returns {Promise<any>}
   */
  async #ask(method, path, { body, signal, ...place } = {}) {
    /** @type {Record<string, string>} */
    const headers = {};
    if (this.changeToken && method !== "GET") headers["X-CSRF-Token"] = this.changeToken;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const url = address(path, place);
    const options = { method, headers, signal, body: body === undefined ? null : JSON.stringify(body) };
    const response = await fetch(url, options).catch((error) => {
      if (error.name === "AbortError") throw error;
      throw new ApiError(`the server does not answer: ${error.message}`, 0, "unreachable");
    });
    if (response.status === 204) return null;
    const kind = response.headers.get("Content-Type") ?? "";
    if (kind.startsWith("application/json")) return response.json();
    const refusal = await refused(response, kind, url);
    if (refusal.status === 401 && path !== "/api/session") this.onSignedOut();
    throw refusal;
  }
}

/**
 * @param {Response} response
 * @param {string} kind
 * @param {string} url
 */
async function refused(response, kind, url) {
  if (!kind.startsWith("application/problem+json")) {
    return new ApiError(`${url} answered ${response.status}`, response.status, "http_error");
  }
  /** @type {Problem} */
  const problem = await response.json();
  return new ApiError(problem.detail, response.status, problem.code);
}

/**
 * Fill a path's parameters in; what is undefined or null is left out of the query.
 * @param {string} path
 * @param {Pick<AnyGiven, "path" | "query">} given
 */
export function address(path, { path: names = {}, query = {} }) {
  const filled = path.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(names[name]));
  const asked = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null) asked.set(name, String(value));
  }
  return asked.size ? `${filled}?${asked}` : filled;
}
