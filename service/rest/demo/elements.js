// Elements made in a line. Knows nothing of the page.

/** An element with properties and children (elements or texts). */
export function el(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

/** Puts `children` in place of what `element` holds. */
export function fill(element, ...children) {
  element.replaceChildren(...children);
}

/** A text whose `code` in backticks becomes elements. */
export function words(text) {
  return text.split("`").map((part, i) => (i % 2 ? el("code", { textContent: part }) : part));
}
