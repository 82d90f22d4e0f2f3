/**
 * Why something could not be translated or filtered. The contract layer turns the kind into a CNI code.
 *
 * - duplicate: it belongs to somebody else, or is there already by other rules
 * - unusable: the means that a backend needs are not there
 * - missing: CHECK: something that ADD made is gone or different
 * - invalid: no rule can be made of what was asked for
 * - refused: a program did not carry out what it was asked for
 */
export type NatErrorKind = 'duplicate' | 'unusable' | 'missing' | 'invalid' | 'refused'

export class NatError extends Error {
  override readonly name: string = 'NatError'
  constructor(
    readonly kind: NatErrorKind,
    message: string,
    /** What to do about it, or what was asked for. */
    readonly details?: string,
  ) {
    super(message)
  }
}

/** An address can be translated for one attachment only. */
export class AddressTaken extends NatError {
  override readonly name = 'AddressTaken'
  constructor(
    readonly address: string,
    /** ownerMark of the attachment that asked. */
    readonly wanted: string,
    /** ownerMark of the attachment that has it. */
    readonly holder: string,
    verb = 'masquerade',
  ) {
    super(
      'duplicate',
      `${verb} ${address} for "${wanted}": the address belongs to "${holder}" (network, container, interface); ` +
        'delete that attachment first',
    )
  }
}

/** Two plugins of one list want to translate the same address by different rules. */
export class TranslatedTwice extends NatError {
  override readonly name = 'TranslatedTwice'
  constructor(
    readonly address: string,
    /** ownerMark of the attachment. */
    readonly owner: string,
  ) {
    super(
      'duplicate',
      `masquerade ${address} for "${owner}" (network, container, interface): it is translated already, by other rules; ` +
        'use either "ipMasq" or the nat plugin in one list, and run DEL before an ADD with a changed configuration',
    )
  }
}

/** A port of the host can lead to one attachment only. */
export class PortTaken extends NatError {
  override readonly name = 'PortTaken'
  constructor(
    /** `tcp 192.0.2.1:8080`. */
    readonly port: string,
    /** ownerMark of the attachment that asked. */
    readonly wanted: string,
    /** ownerMark of the attachment that has it. */
    readonly holder: string,
  ) {
    super(
      'duplicate',
      `forward host port ${port} to "${wanted}": the port belongs to "${holder}" (network, container, interface); ` +
        'delete that attachment, or choose another hostPort or hostIP',
    )
  }
}

/** The means that a backend needs are not there. */
export class BackendMissing extends NatError {
  override readonly name = 'BackendMissing'
  constructor(what: string, remedy: string) {
    super('unusable', what, remedy)
  }
}

/** CHECK: something that ADD made is missing or different. */
export class RuleMissing extends NatError {
  override readonly name = 'RuleMissing'
  constructor(what: string, feature = 'masquerade') {
    super('missing', `${feature}: ${what}`, 'ns-net reload puts back what somebody removed since ADD')
  }
}
