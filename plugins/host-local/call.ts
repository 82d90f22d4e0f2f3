import { ipamPlugin } from '../contract/ipam-plugin.ts'
import { serve } from '../contract/serve.ts'

export const call = (): never => serve(ipamPlugin('host-local'))
