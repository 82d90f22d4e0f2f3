/**
 * One interface of one container on one network: what CNI identifies by CNI_CONTAINERID, CNI_IFNAME and the network's
 * name. Leases, rules and links are all owned by an attachment.
 */
export interface Attachment {
  readonly network: string
  readonly containerId: string
  readonly ifName: string
}

/** An attachment of a network already known: the elements of `cni.dev/valid-attachments` (CNI spec, GC). */
export type AttachmentId = Omit<Attachment, 'network'>
