// The document: elements made by functions, changed only where they differ, so that focus and selection stay.

/** What keyed() has made, by parent. @type {WeakMap<Element, Map<string, Element>>} */
const made = new WeakMap();

/**
 * @param {string} tag with classes: 'td.number'
 * @param {Record<string, string | number | boolean | ((event: Event) => void)>} attributes on…: listeners
 * @param {...(Node | string)} children strings become text, never markup
 * @returns {any} an element of that tag
 */
export function h(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split('.');
  const element = document.createElement(name);
  if (classes.length > 0) element.className = classes.join(' ');
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, '');
    else if (value !== false) element.setAttribute(key, String(value));
  }
  element.append(...children);
  return element;
}

/** @param {Element} element @param {string} text */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** @param {Element} element @param {string} name @param {string | null} value null: without it */
export function setAttribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** Number and unit, the unit quieter. @param {Element} element @param {import('./units.js').Quantity} quantity */
export function setQuantity(element, {number, unit}) {
  if (element.childElementCount !== 2) element.replaceChildren(h('span.n'), h('span.u'));
  setText(element.children[0], number);
  setText(element.children[1], unit === '' ? '' : `\u2009${unit}`);
}

/**
 * The number as the process said it, for tests and for who wants to copy it.
 * @param {Element} element @param {string} metric @param {{key: string, value: number} | undefined} sample
 */
export function setRaw(element, metric, sample) {
  setAttribute(element, 'data-metric', sample === undefined ? null : metric);
  setAttribute(element, 'data-labels', sample === undefined ? null : sample.key);
  setAttribute(element, 'data-value', sample === undefined ? null : String(sample.value));
}

/**
 * Children of `parent`, one for each item, kept by key.
 * @template T
 * @param {Element} parent @param {T[]} items @param {(item: T) => string} key
 * @param {(item: T) => Element} create @param {(element: Element, item: T) => void} update
 */
export function keyed(parent, items, key, create, update) {
  const known = made.get(parent) ?? new Map();
  made.set(parent, known);
  const wanted = new Set();
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    wanted.add(name);
    let element = known.get(name);
    if (element === undefined) known.set(name, (element = create(item)));
    update(element, item);
    if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
  }
  for (const [name, element] of known) {
    if (wanted.has(name)) continue;
    element.remove();
    known.delete(name);
  }
}

/**
 * A table whose rows are kept by key.
 * @template T
 * @param {{caption: string, columns: {title: string, text?: boolean, hint?: string, wide?: boolean,
 *          cell: (element: HTMLElement, item: T) => void}[], key: (item: T) => string}} options text: left-aligned;
 *        wide: left out on narrow screens
 */
export function table({caption, columns, key}) {
  const head = columns.map(({title, text, hint, wide}) =>
    h(`th${text ? '' : '.number'}${wide ? '.wide' : ''}`, {scope: 'col', ...(hint ? {title: hint} : {})}, title));
  const body = h('tbody');
  const element = h('table', {}, h('caption.hidden', {}, caption), h('thead', {}, h('tr', {}, ...head)), body);
  return {
    element,
    /** @param {T[]} items */
    update(items) {
      keyed(body, items, key,
            () => h('tr', {}, ...columns.map(({text, wide}, i) =>
              h(i === 0 ? 'th' : `td${text ? '' : '.number'}${wide ? '.wide' : ''}`, i === 0 ? {scope: 'row'} : {}))),
            (row, item) => columns.forEach(({cell}, i) => cell(/** @type {HTMLElement} */ (row.children[i]), item)));
    },
  };
}
