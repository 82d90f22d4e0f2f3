/** An address can be translated for one attachment only. */
export class AddressTaken extends Error {
  override readonly name = 'AddressTaken'
  /** For the contract layer: which sort of failure this is. */
  readonly kind = 'duplicate'
  constructor(
    readonly address: string,
    /** ownerMark of the attachment that asked. */
    readonly wanted: string,
    /** ownerMark of the attachment that has it. */
    readonly holder: string,
  ) {
    super(
      `masquerade ${address} for "${wanted}": the address belongs to "${holder}" (network, container, interface); ` +
        'delete that attachment first',
    )
  }
}

/** CHECK: something that ADD made is missing or different. */
export class TranslationMissing extends Error {
  override readonly name = 'TranslationMissing'
  /** For the contract layer: which sort of failure this is. */
  readonly kind = 'missing'
  constructor(what: string) {
    super(`masquerade: ${what}`)
  }
}
