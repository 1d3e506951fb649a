// @ts-check
// What the scripts of all pages share: finding and making elements.

/**
 * Return the element of an id; the ids of our pages stand in types.d.ts.
 * @template {keyof import("./types").Elements} Id
 * @param {Id} id
 * @returns {import("./types").Elements[Id]}
 */
export function $(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element #${id}`);
  return /** @type {any} */ (found);
}

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Partial<HTMLElementTagNameMap[Tag]>} [properties]
 * @param {...(Node | string | null)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** @param {string} text */
export const words = (text) => text.replaceAll("_", " ");

/**
 * Return what an error says.
 * @param {unknown} error
 */
export const saying = (error) => (error instanceof Error ? error.message : String(error));
