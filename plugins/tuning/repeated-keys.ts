/**
 * Keys that stand more than once in an object called `name`, at any depth of the document. JSON.parse keeps the last one
 * and does not tell; of two values for one sysctl, nobody knows which was meant.
 */
export function repeatedKeys(document: string, name: string): string[] {
  const repeated: string[] = []
  const open: { readonly name: string; readonly keys: Set<string> }[] = []
  let key = ''
  for (const [, text, isKey, bracket] of document.matchAll(/("(?:[^"\\]|\\.)*")(\s*:)?|([{}[\]])/g)) {
    if (bracket === '{' || bracket === '[') {
      open.push({ name: key.toLowerCase(), keys: new Set() })
      key = ''
    } else if (bracket) {
      open.pop()
    } else if (isKey) {
      key = JSON.parse(text!) as string
      const inside = open.at(-1)
      if (inside?.name === name && inside.keys.has(key)) repeated.push(key)
      inside?.keys.add(key)
    }
  }
  return repeated
}
