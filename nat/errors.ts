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
    verb = 'masquerade',
  ) {
    super(
      `${verb} ${address} for "${wanted}": the address belongs to "${holder}" (network, container, interface); ` +
        'delete that attachment first',
    )
  }
}

/** Two plugins of one list want to translate the same address by different rules. */
export class TranslatedTwice extends Error {
  override readonly name = 'TranslatedTwice'
  /** For the contract layer: which sort of failure this is. */
  readonly kind = 'duplicate'
  constructor(
    readonly address: string,
    /** ownerMark of the attachment. */
    readonly owner: string,
  ) {
    super(
      `masquerade ${address} for "${owner}" (network, container, interface): it is translated already, by other rules; ` +
        'use either "ipMasq" or the nat plugin in one list, and run DEL before an ADD with a changed configuration',
    )
  }
}

/** The means that a backend needs are not there. */
export class BackendMissing extends Error {
  override readonly name = 'BackendMissing'
  /** For the contract layer: which sort of failure this is. */
  readonly kind = 'unusable'
  constructor(what: string, remedy: string) {
    super(`${what}; ${remedy}`)
  }
}

/** A port of the host can lead to one attachment only. */
export class PortTaken extends Error {
  override readonly name = 'PortTaken'
  /** For the contract layer: which sort of failure this is. */
  readonly kind = 'duplicate'
  constructor(
    /** `tcp 192.0.2.1:8080`. */
    readonly port: string,
    /** ownerMark of the attachment that asked. */
    readonly wanted: string,
    /** ownerMark of the attachment that has it. */
    readonly holder: string,
  ) {
    super(
      `forward host port ${port} to "${wanted}": the port belongs to "${holder}" (network, container, interface); ` +
        'delete that attachment, or choose another hostPort or hostIP',
    )
  }
}

/** CHECK: something that ADD made is missing or different. */
export class TranslationMissing extends Error {
  override readonly name = 'TranslationMissing'
  /** For the contract layer: which sort of failure this is. */
  readonly kind = 'missing'
  constructor(what: string, feature = 'masquerade') {
    super(`${feature}: ${what}`)
  }
}
