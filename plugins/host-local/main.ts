import '../../engine/globals.ts'
import { ipamPlugin } from '../contract/ipam-plugin.ts'
import { serve } from '../contract/serve.ts'

serve(ipamPlugin('host-local'))
