import { serve } from '../contract/serve.ts'
import { firewall } from './firewall.ts'

export const call = (): never => serve(firewall)
