import '../../engine/globals.ts'
import { serve } from '../contract/serve.ts'
import { firewall } from './firewall.ts'

serve(firewall)
